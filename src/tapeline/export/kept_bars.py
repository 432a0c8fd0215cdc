"""What an export keeps of a day's bars when it is written again: gold may have begun to lose them.

A longer bar is made of stored ones, each of which expires by itself. What is left of them is a bar
too, and it looks as final as the whole one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tapeline.export.content import Content
from tapeline.model.read_interval import ReadInterval
from tapeline.model.threshold import Length

_START: Final = "window_start"
_PRICES: Final = ("open", "high", "low", "close")


def with_kept(
    before: pa.Table, now: pa.Table, content: Content, length: Length
) -> tuple[pa.Table, bool]:
    """Return the bars of a symbol's day as they are to be written, and whether some are lost.

    A bar that was written stays where gold has none any more, or one of fewer trades at no higher
    revision. Where gold forgets, a final bar of fewer trades stays at any revision, since a part
    that is left may be revised; and so do its prices while neither trades nor revision grow, since
    the bar whose close it opened at may be gone. Tick, volume and dollar bars of a day hang on one
    another, and stay or go together.

    Args:
        before: as the export has them, in the columns of `now`.
        now: as the store has them.
        content: where `now` is from. What is provisional there is not lost.
        length: of the bars.
    """
    keep = _kept_by_window if isinstance(length, ReadInterval) else _kept_together
    return keep(before, now, content)


class _State(NamedTuple):
    """What tells a whole bar from what is left of it."""

    trades: int
    revision: int
    is_final: bool
    prices: tuple[float | None, ...]

    def stays(self, now: _State | None, *, expires: bool) -> bool:
        """Return whether the bar is not to be replaced by what the store has now."""
        if now is None or not self.is_final:
            return now is None
        is_revised = now.revision > self.revision
        if now.trades != self.trades:
            return now.trades < self.trades and (expires or not is_revised)
        return expires and now.is_final and not is_revised and now.prices != self.prices


def _kept_by_window(before: pa.Table, now: pa.Table, content: Content) -> tuple[pa.Table, bool]:
    found = _states(now)
    kept = [
        state.stays(found.get(start), expires=content.expires)
        for start, state in _states(before).items()
    ]
    whole = before.filter(pa.array(kept, pa.bool_()))
    if not whole.num_rows:
        return now, False
    others = now.filter(pc.invert(pc.is_in(now[_START], whole[_START])))
    lost = set(whole[_START].to_pylist()) - content.pending
    return pa.concat_tables([whole, others]).sort_by(_START).combine_chunks(), bool(lost)


def _states(bars: pa.Table) -> dict[datetime, _State]:
    """Return what is known of each bar of one symbol, in their order."""
    prices = zip(*(bars[name].to_pylist() for name in _PRICES), strict=True)
    columns = (bars[name].to_pylist() for name in ("trade_count", "revision", "is_final"))
    return dict(zip(bars[_START].to_pylist(), map(_State, *columns, prices), strict=True))


def _kept_together(before: pa.Table, now: pa.Table, content: Content) -> tuple[pa.Table, bool]:
    trades, revision = _sum_and_highest(before)
    left, at_revision = _sum_and_highest(now)
    if left < trades and (content.expires or content.pending or at_revision <= revision):
        return before, not content.pending
    return now, False


def _sum_and_highest(bars: pa.Table) -> tuple[int, int]:
    """Return the number of trades of some bars, and their highest revision."""
    return pc.sum(bars["trade_count"]).as_py() or 0, pc.max(bars["revision"]).as_py() or 0
