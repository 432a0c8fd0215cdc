"""Longer bars from shorter ones: the stored hours, and on reading anything up to a day.

The parts are exact, so the whole is: equal to what the trades themselves would give.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Context, Decimal, localcontext
from typing import Any, Final, TypeVar

from tapeline.model.bar import Bar
from tapeline.model.gap import Gap
from tapeline.model.longer_windows import Counting, Span, counting, part_of, whole_of
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rules import MIXED_POLICY, PLAIN, ReadingRules
from tapeline.model.sessions import Session, asset_class_of, sessions_between

_EXACT_DIGITS: Final = 60
_T = TypeVar("_T")
ReadingOf = Callable[[str | None], ReadingRules]
"""Returns how bars of a policy are read."""
Gaps = Callable[[], Sequence[Gap]]


def plainly(_policy: str | None) -> ReadingRules:
    """Return how bars of shipped rules are read: as they are."""
    return PLAIN


def roll_up_bars(
    bars: Iterable[Bar],
    interval: ReadInterval,
    final_until: datetime | None,
    gaps: Gaps = tuple,
    reading: ReadingOf = plainly,
) -> list[Bar]:
    """Combine stored bars of one symbol, in order of time, into longer ones.

    A day of a share is the regular hours of its exchange, or all its trades if the rules say so; of
    anything else, the UTC day.

    Args:
        bars: of the interval's stored length, and of its session if it has one.
        interval: what to make of them.
        final_until: a longer bar is final when it ends by then and all its parts are final.
        gaps: reads those of the feed; while one touches a part that has no bar, nobody can say
            whether the longer bar is complete. Called only when there is such a part.
        reading: by the policy of a bar, which trades make a share's day.
    """
    parts: dict[Span, list[Bar]] = defaultdict(list)
    wide: dict[Span, Span] = {}
    for bar in bars:
        rules = reading(bar.policy)
        found = part_of(bar, interval, rules)
        if found is not None:
            window, part = found
            parts[window].append(part)
            if rules.all_day and (whole := whole_of(bar, interval)) is not None:
                wide[window] = whole
    made = []
    for window, group in sorted(parts.items()):
        first, last = wide.get(window, window)
        is_final = (
            final_until is not None and last <= final_until and all(part.is_final for part in group)
        )
        bar = combined(group, *window)
        counts = counting(bar, interval, is_whole=window in wide)
        made.append(with_state(bar, group, (first, last), gaps, counts, is_final=is_final))
    return made


def with_state(
    bar: Bar,
    parts: Sequence[Bar],
    span: Span,
    gaps: Gaps,
    counts: Counting | None,
    *,
    is_final: bool,
) -> Bar:
    """Return a bar with the state that the bars give it that it hangs on, as `state_of` does."""
    return replace(bar, **state_of(parts, span, gaps, counts, is_final=is_final))


def state_of(
    parts: Sequence[Bar],
    span: Span,
    gaps: Gaps,
    counts: Counting | None,
    *,
    is_final: bool,
) -> dict[str, Any]:
    """Return the fields of the state of a bar that hangs on others.

    Args:
        parts: those that it hangs on, in order of time.
        span: of the trades that it hangs on.
        gaps: as for `roll_up_bars`.
        counts: whether trades of a session can be lacking; None is of any.
        is_final: as it is to be.
    """
    return {
        "is_final": is_final,
        "is_complete": _is_complete(parts, span, gaps, counts) if is_final else None,
        # The first final bar is 1; each revision of a part is one of the whole.
        "revision": 1 + sum(p.revision - 1 for p in parts) if is_final else 0,
        "reason": next((p.reason for p in reversed(parts) if p.reason is not None), None),
        "updated_at": _of(max, [p.updated_at for p in parts]),
    }


def carried(parts: Sequence[Bar], interval: ReadInterval, gaps: Gaps) -> Bar:
    """Return a bar that opens at the close before it, which counts for its high and low.

    Args:
        parts: the last bar before it that has a close, those after that without, and the bar.
        interval: of the bars.
        gaps: as for `roll_up_bars`; one while the market was closed hides no trade.
    """
    before, bar = parts[0], parts[-1]
    at = before.close
    return with_state(
        replace(
            bar,
            open=at,
            high=_of(max, [at, bar.high]),
            low=_of(min, [at, bar.low]),
            close=at if bar.close is None else bar.close,
        ),
        parts,
        (before.window_start, bar.window_end),
        gaps,
        counting(bar, interval, is_whole=False) or _is_open,
        is_final=all(part.is_final for part in parts),
    )


def _is_open(session: Session) -> bool:
    return session is not Session.CLOSED


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


def _is_complete(
    parts: Sequence[Bar], span: Span, gaps: Gaps, counts: Counting | None
) -> bool | None:
    known = [p.is_complete for p in parts]
    if False in known:
        return False
    symbol = parts[0].symbol
    is_unknown = None in known or any(
        gap.touches(symbol, *lacking)
        for empty in _empty(parts, *span)
        for gap in gaps()
        if gap.touches(symbol, *empty)
        for lacking in _traded(symbol, empty, counts)
    )
    return None if is_unknown else True


def _traded(symbol: str, empty: Span, counts: Counting | None) -> Iterator[Span]:
    """Yield the parts of an empty time in which trades can be lacking."""
    if counts is None:
        yield empty
        return
    for first, last, session in sessions_between(symbol, *empty):
        if counts(session):
            yield first, last


def _empty(parts: Sequence[Bar], start: datetime, end: datetime) -> Iterator[Span]:
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
