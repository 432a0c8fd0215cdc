"""Longer bars from shorter ones: the stored hours, and on reading anything up to a day.

The parts are exact, so the whole is: equal to what the trades themselves would give.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Context, Decimal, localcontext
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

from tapeline.model.bar import Bar, Interval
from tapeline.model.gap import Gap
from tapeline.model.sessions import NEW_YORK, AssetClass, Session, asset_class_of, regular_hours
from tapeline.model.times import floor_to

_DAY: Final = timedelta(days=1)
_EXACT_DIGITS: Final = 60
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ReadInterval:
    """A length of bars that readers may ask for, and the stored bars that it is made of."""

    name: str
    duration: timedelta

    @property
    def stored(self) -> Interval:
        """The stored interval that is read; a day of an exchange needs one below the hour."""
        if self.duration % Interval.FIVE_MINUTES.duration:
            return Interval.ONE_MINUTE
        is_whole_hours = not self.duration % Interval.ONE_HOUR.duration
        return Interval.ONE_HOUR if is_whole_hours and not self.is_day else Interval.FIVE_MINUTES

    @property
    def is_stored(self) -> bool:
        """Whether stored bars are of just this length."""
        return self.duration == self.stored.duration

    @property
    def is_day(self) -> bool:
        """Whether a bar is a trading day."""
        return self.duration == _DAY

    @classmethod
    def parse(cls, text: str) -> ReadInterval:
        """Read e.g. `15m`, `4h` or `1d`.

        Raises:
            ValueError: it is no number of minutes that divides a day.
        """
        found = re.fullmatch(r"([1-9]\d{0,3})([mhd])", text)
        minutes = int(found[1]) * {"m": 1, "h": 60, "d": 1440}[found[2]] if found else 0
        duration = timedelta(minutes=minutes)
        if not minutes or _DAY % duration:
            message = (
                f"{text!r} is no interval: give minutes that divide a day, such as 5m, 15m, 30m, "
                "1h, 4h or 1d."
            )
            raise ValueError(message)
        return cls(text, duration)


def roll_up_bars(
    bars: Iterable[Bar],
    interval: ReadInterval,
    final_until: datetime | None,
    gaps: Callable[[], Sequence[Gap]] = tuple,
) -> list[Bar]:
    """Combine stored bars of one symbol, in order of time, into longer ones.

    A day of an equity is its regular session in New York; of anything else, the UTC day.

    Args:
        bars: of the interval's stored length.
        interval: what to make of them.
        final_until: a longer bar is final when it ends by then and all its parts are final.
        gaps: reads those of the feed; while one touches a part that has no bar, nobody can say
            whether the longer bar is complete. Called only when there is such a part.
    """
    parts: dict[tuple[datetime, datetime], list[Bar]] = defaultdict(list)
    for bar in bars:
        window = window_of(bar, interval)
        if window is not None:
            parts[window].append(bar)
    found = []
    for (start, end), group in sorted(parts.items()):
        is_final = (
            final_until is not None and end <= final_until and all(part.is_final for part in group)
        )
        found.append(
            replace(
                combined(group, start, end),
                is_final=is_final,
                is_complete=_is_complete(group, start, end, gaps) if is_final else None,
                # The first final bar is 1; each revision of a part is one of the whole.
                revision=1 + sum(p.revision - 1 for p in group) if is_final else 0,
                reason=next((p.reason for p in reversed(group) if p.reason is not None), None),
                updated_at=_of(max, [p.updated_at for p in group]),
            )
        )
    return found


def combined(parts: Sequence[Bar], start: datetime, end: datetime) -> Bar:
    """Return what the trades of some bars give over a longer window, as a provisional bar.

    Args:
        parts: bars of one symbol within [start, end), at least one, in order of time.
        start: of the longer window.
        end: of the longer window.
    """
    priced = [p for p in parts if p.open is not None]
    volume, notional = _sum([p.volume for p in parts]), _sum([p.notional for p in parts])
    # Bars of an earlier version know neither session nor asset class.
    sessions = {p.session for p in parts if p.session is not None}
    return Bar(
        symbol=parts[0].symbol,
        window_start=start,
        window_end=end,
        open=priced[0].open if priced else None,
        high=_of(max, [p.high for p in parts]),
        low=_of(min, [p.low for p in parts]),
        close=priced[-1].close if priced else None,
        volume=volume,
        notional=notional,
        vwap=float(notional) / float(volume) if volume else None,
        trade_count=sum(p.trade_count for p in parts),
        unpriced_count=sum(p.unpriced_count for p in parts),
        unpriced_volume=_sum([p.unpriced_volume for p in parts]),
        first_trade_time=_of(min, [p.first_trade_time for p in parts]),
        last_trade_time=_of(max, [p.last_trade_time for p in parts]),
        first_received_at=_of(min, [p.first_received_at for p in parts]),
        session=sessions.pop() if len(sessions) == 1 else Session.MIXED.value,
        asset_class=asset_class_of(parts[0].symbol).value,
        policy=parts[0].policy,
    )


def window_of(bar: Bar, interval: ReadInterval) -> tuple[datetime, datetime] | None:
    """Return the longer window that a bar belongs to, None if it belongs to none."""
    if interval.is_day and asset_class_of(bar.symbol) is AssetClass.EQUITY:
        if bar.session != Session.REGULAR.value:
            return None
        return regular_hours(bar.window_start.astimezone(ZoneInfo(NEW_YORK)).date())
    start = floor_to(interval.duration, bar.window_start)
    return start, start + interval.duration


def _is_complete(
    parts: Sequence[Bar], start: datetime, end: datetime, gaps: Callable[[], Sequence[Gap]]
) -> bool | None:
    known = [p.is_complete for p in parts]
    if False in known:
        return False
    is_unknown = None in known or any(
        gap.touches(parts[0].symbol, *empty)
        for empty in _empty(parts, start, end)
        for gap in gaps()
    )
    return None if is_unknown else True


def _empty(
    parts: Sequence[Bar], start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the times of a longer bar that no part covers."""
    for part in parts:
        if start < part.window_start:
            yield start, part.window_start
        start = part.window_end
    if start < end:
        yield start, end


def _sum(amounts: Sequence[Decimal]) -> Decimal:
    # The context's usual 28 digits would round what the columns hold.
    with localcontext(Context(prec=_EXACT_DIGITS)):
        return sum(amounts, Decimal(0))


def _of(choose: Callable[[list[_T]], _T], values: Sequence[_T | None]) -> _T | None:
    present = [v for v in values if v is not None]
    return choose(present) if present else None
