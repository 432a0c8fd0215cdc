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

from tapeline.model.bar import Bar, Interval
from tapeline.model.gap import Gap
from tapeline.model.rules import MIXED_POLICY
from tapeline.model.sessions import Session, asset_class_of, sessions_between, trading_day
from tapeline.model.times import floor_to
from tapeline.model.venues import AssetClass

_DAY: Final = timedelta(days=1)
_EXACT_DIGITS: Final = 60
_T = TypeVar("_T")
_Span = tuple[datetime, datetime]
_SESSIONS: Final = tuple(s.value for s in Session if s is not Session.MIXED)
_SESSIONS_OF_DAYS: Final = tuple(
    s.value for s in (Session.REGULAR, Session.CONTINUOUS, Session.UNKNOWN)
)
"""A day of an exchange is its regular hours; others have these."""


@dataclass(frozen=True, slots=True)
class ReadInterval:
    """A length of bars that readers may ask for, and the stored bars that it is made of."""

    name: str
    duration: timedelta
    session: Session | None = None
    """The only one whose trades are wanted."""

    @property
    def stored(self) -> Interval:
        """The stored interval that is read; a day or one session needs one below the hour."""
        if self.duration % Interval.FIVE_MINUTES.duration:
            return Interval.ONE_MINUTE
        is_of_hours = not self.duration % Interval.ONE_HOUR.duration
        is_whole = is_of_hours and not self.is_day and self.session is None
        return Interval.ONE_HOUR if is_whole else Interval.FIVE_MINUTES

    @property
    def is_stored(self) -> bool:
        """Whether stored bars are of just this length."""
        return self.duration == self.stored.duration

    def of_session(self, name: str) -> ReadInterval:
        """Return the same length for the trades of one session alone.

        Raises:
            ValueError: there is no such session, or bars of this length never hold it.
        """
        held = _SESSIONS_OF_DAYS if self.is_day else _SESSIONS
        if name not in held:
            message = f"{name!r} is no session of {self.name} bars: give {', '.join(held)}."
            raise ValueError(message)
        return replace(self, session=Session(name))

    def of_wanted(self, bars: Iterable[Bar]) -> Iterator[Bar]:
        """Yield those of stored bars whose trades are wanted."""
        return (b for b in bars if self.session is None or b.session == self.session.value)

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

    A day of a share is the regular hours of its exchange; of anything else, the UTC day.

    Args:
        bars: of the interval's stored length, and of its session if it has one.
        interval: what to make of them.
        final_until: a longer bar is final when it ends by then and all its parts are final.
        gaps: reads those of the feed; while one touches a part that has no bar, nobody can say
            whether the longer bar is complete. Called only when there is such a part.
    """
    parts: dict[_Span, list[Bar]] = defaultdict(list)
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
                is_complete=_is_complete(group, start, end, gaps, interval.session)
                if is_final
                else None,
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
    policies = {p.policy for p in parts if p.policy is not None}
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
        policy=policies.pop() if len(policies) == 1 else MIXED_POLICY if policies else None,
    )


def window_of(bar: Bar, interval: ReadInterval) -> _Span | None:
    """Return the longer window that a bar belongs to, None if it belongs to none."""
    is_share = asset_class_of(bar.symbol) is AssetClass.EQUITY
    # Where the hours of an exchange are not known, its day is the UTC day like anybody's.
    if interval.is_day and is_share and bar.session != Session.UNKNOWN.value:
        day = trading_day(bar.symbol, bar.window_start)
        is_regular = bar.session == Session.REGULAR.value
        # Rows of an earlier version may know other hours.
        is_in = day is not None and day[0] <= bar.window_start < day[1]
        return day if is_regular and is_in else None
    start = floor_to(interval.duration, bar.window_start)
    return start, start + interval.duration


def _is_complete(
    parts: Sequence[Bar],
    start: datetime,
    end: datetime,
    gaps: Callable[[], Sequence[Gap]],
    session: Session | None,
) -> bool | None:
    known = [p.is_complete for p in parts]
    if False in known:
        return False
    symbol = parts[0].symbol
    is_unknown = None in known or any(
        gap.touches(symbol, *lacking)
        for empty in _empty(parts, start, end)
        for gap in gaps()
        if gap.touches(symbol, *empty)
        for lacking in _traded(symbol, (start, end), empty, session)
    )
    return None if is_unknown else True


def _traded(symbol: str, window: _Span, empty: _Span, session: Session | None) -> Iterator[_Span]:
    """Yield the parts of an empty time of a window in which trades can be lacking.

    Those of one session, if only that one is wanted or the window is an exchange's day. Else all
    of it but the weekend and the pauses of currencies: shares trade around regular hours too.
    """
    wanted = session
    if wanted is None and window == trading_day(symbol, window[0]):
        wanted = Session.REGULAR
    if wanted is None and asset_class_of(symbol) is not AssetClass.FX:
        yield empty
        return
    for first, last, found in sessions_between(symbol, *empty):
        if found is wanted or (wanted is None and found is not Session.CLOSED):
            yield first, last


def _empty(parts: Sequence[Bar], start: datetime, end: datetime) -> Iterator[_Span]:
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
