"""Longer bars from stored ones, on reading: 15 or 30 minutes, several hours, or a day.

The parts are exact, so the whole is: equal to what the trades themselves would give.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

from tapeline.bar import Bar, Interval
from tapeline.sessions import NEW_YORK, AssetClass, Session, asset_class_of, regular_hours

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DAY: Final = timedelta(days=1)
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
    bars: Iterable[Bar], interval: ReadInterval, now: datetime, delay: timedelta
) -> list[Bar]:
    """Combine stored bars of one symbol, in order of time, into longer ones.

    A day of an equity is its regular session in New York; of anything else, the UTC day.

    Args:
        bars: of the interval's stored length.
        interval: what to make of them.
        now: a longer bar is final when all its parts are and this is past its end by `delay`.
        delay: how late a trade may be.
    """
    parts: dict[tuple[datetime, datetime], list[Bar]] = defaultdict(list)
    for bar in bars:
        window = _window_of(bar, interval)
        if window is not None:
            parts[window].append(bar)
    return [
        _combined(group, start, end, is_over=now >= end + delay)
        for (start, end), group in sorted(parts.items())
    ]


def _window_of(bar: Bar, interval: ReadInterval) -> tuple[datetime, datetime] | None:
    """Return the longer window that a bar belongs to, None if it belongs to none."""
    if interval.is_day and asset_class_of(bar.symbol) is AssetClass.EQUITY:
        if bar.session != Session.REGULAR.value:
            return None
        return regular_hours(bar.window_start.astimezone(ZoneInfo(NEW_YORK)).date())
    start = bar.window_start - (bar.window_start - _EPOCH) % interval.duration
    return start, start + interval.duration


def _combined(parts: Sequence[Bar], start: datetime, end: datetime, *, is_over: bool) -> Bar:
    priced = [p for p in parts if p.open is not None]
    notional = sum((p.notional for p in parts), parts[0].notional * 0)
    volume = sum((p.volume for p in parts), parts[0].volume * 0)
    sessions = {p.session for p in parts}
    is_final = is_over and all(p.is_final for p in parts)
    return replace(
        parts[0],
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
        unpriced_volume=sum((p.unpriced_volume for p in parts), parts[0].volume * 0),
        first_trade_time=_of(min, [p.first_trade_time for p in parts]),
        last_trade_time=_of(max, [p.last_trade_time for p in parts]),
        first_received_at=_of(min, [p.first_received_at for p in parts]),
        session=sessions.pop() if len(sessions) == 1 else Session.MIXED.value,
        is_final=is_final,
        is_complete=_all_complete(parts),
        # The first final bar is 1; each revision of a part is one of the whole.
        revision=1 + sum(p.revision - 1 for p in parts) if is_final else 0,
        reason=next((p.reason for p in reversed(parts) if p.reason is not None), None),
        updated_at=_of(max, [p.updated_at for p in parts]),
    )


def _all_complete(parts: Sequence[Bar]) -> bool | None:
    known = [p.is_complete for p in parts]
    if False in known:
        return False
    return None if None in known else True


def _of(choose: Callable[[list[_T]], _T], values: Sequence[_T | None]) -> _T | None:
    present = [v for v in values if v is not None]
    return choose(present) if present else None
