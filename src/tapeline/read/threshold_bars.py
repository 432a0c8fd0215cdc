"""Tick, volume and dollar bars, made of silver's trades when they are read.

They begin anew with each session and at midnight UTC, so none hangs on what is asked for
(docs/adr/0015-where-a-tick-bar-begins.md). Their state follows from the stored bars of the same
trades, those from the beginning of the session on: each bar begins where the one before it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from tapeline.model.bar import Bar, Interval
from tapeline.model.conditions import SHIPPED
from tapeline.model.errors import ExpiredError, UsageError
from tapeline.model.rollup import Gaps, state_of
from tapeline.model.rules import Rules
from tapeline.model.sessions import Session, sessions_between
from tapeline.model.splits import NO_SPLITS, Splits
from tapeline.model.texts import counted
from tapeline.model.threshold import Threshold
from tapeline.model.times import floor_to, from_millis, iso, to_millis
from tapeline.read.gaps import gaps_between
from tapeline.read.threshold_fold import ThresholdFold, in_order
from tapeline.storage.cassandra_client import CassandraClient

_DAY: Final = timedelta(days=1)
_WINDOW: Final = Interval.FIVE_MINUTES.duration


class Stretch(NamedTuple):
    """A time in which bars follow one another: of one UTC day and session, without a split."""

    start: datetime
    end: datetime
    session: Session


def threshold_bars(
    client: CassandraClient,
    symbol: str,
    threshold: Threshold,
    start: datetime,
    end: datetime,
    known: Rules,
    splits: Splits = NO_SPLITS,
) -> Iterator[Bar]:
    """Yield the bars whose first trade was made at start <= time < end, in their order.

    Args:
        client: of the keyspace.
        symbol: in the feed's name.
        threshold: when a bar ends.
        start: aware.
        end: aware.
        known: rules that are known beside those that are shipped.
        splits: what bars are adjusted for.

    Raises:
        UsageError: the keyspace's bars are made by rules that are not known.
        ExpiredError: silver no longer has all the trades that final bars were made of.
    """
    if end <= start:
        return
    rules = rules_of_bars(client, known)
    changes = splits.times_of.get(symbol, ())
    first = stretch_of(symbol, start, changes).start
    last = stretch_of(symbol, end - timedelta.resolution, changes).end
    # Before the bars: one that is finalized meanwhile is not final yet, instead of too early.
    final_until = client.final_until()
    gaps = gaps_between(client, first, last)
    stored = client.bars(symbol, threshold.stored, first, last)
    for stretch, parts in by_stretch(symbol, stored, changes):
        if threshold.session not in {None, stretch.session}:
            continue
        factor = splits.factor_at(symbol, stretch.start)
        fold = ThresholdFold(symbol, threshold, rules, stretch.session, factor)
        for bar in _bars_of_stretch(client, fold, stretch, parts, final_until, gaps):
            if start <= bar.window_start < end:
                yield bar


def rules_of_bars(client: CassandraClient, known: Rules) -> Rules:
    """Return the rules by which the bars of a keyspace are made; `known` where there are none.

    Raises:
        UsageError: they are neither shipped nor those that are known.
    """
    name = client.policy_of_bars()
    if name is None or name == known.name:
        return known
    if name not in SHIPPED:
        message = (
            f"Bars of keyspace {client.keyspace} are made by the rules {name}: name their file "
            "with TAPELINE_STREAM__POLICY."
        )
        raise UsageError(message)
    return SHIPPED[name]


def stretch_of(symbol: str, instant: datetime, changes: Sequence[datetime]) -> Stretch:
    """Return the stretch of a symbol that an instant lies in.

    Args:
        symbol: in the feed's name.
        instant: aware.
        changes: when the symbol is split.
    """
    day = floor_to(_DAY, instant)
    spans = sessions_between(symbol, day, day + _DAY)
    start, end, session = next(span for span in spans if instant < span[1])
    return Stretch(
        max([start, *(at for at in changes if at <= instant)]),
        min([end, *(at for at in changes if at > instant)]),
        session,
    )


def by_stretch(
    symbol: str, bars: Iterable[Bar], changes: Sequence[datetime]
) -> Iterator[tuple[Stretch, list[Bar]]]:
    """Yield stored bars in order of time, those of one stretch together."""
    stretch: Stretch | None = None
    parts: list[Bar] = []
    for bar in bars:
        if stretch is None or bar.window_start >= stretch.end:
            if stretch is not None:
                yield stretch, parts
            stretch, parts = stretch_of(symbol, bar.window_start, changes), []
        parts.append(bar)
    if stretch is not None:
        yield stretch, parts


def _bars_of_stretch(
    client: CassandraClient,
    fold: ThresholdFold,
    stretch: Stretch,
    stored: Sequence[Bar],
    final_until: datetime | None,
    gaps: Gaps,
) -> Iterator[Bar]:
    """Yield the bars of a stretch, read window by window; those of one window are held.

    Every window of it is read, since only silver knows of a trade whose window has no bar yet.
    """
    are_settled = True
    symbol = stored[0].symbol
    bar_of = {to_millis(bar.window_start): bar for bar in stored}
    windows = ((symbol, start_ms) for start_ms in _windows_of(stretch))
    parts: list[Bar] = []

    def with_state(bars: Iterable[Bar], end: datetime) -> Iterator[Bar]:
        is_final = are_settled and final_until is not None and end <= final_until
        state = state_of(parts, (stretch.start, end), gaps, None, is_final=is_final)
        return (replace(bar, **state) for bar in bars)

    for (_, start_ms), rows in client.silver_in_pages(windows):
        part, filled, trades = bar_of.get(start_ms), [], 0
        for trade in in_order(symbol, rows):
            trades += 1
            bar = fold.take(trade)
            if bar is not None:
                filled.append(bar)
        if part is not None:
            parts.append(part)
            _require_all(part, trades)
        # A trade that came since the stored bar was made is in no final bar yet.
        is_settled = part.is_final and trades == part.trade_count if part else not trades
        are_settled = are_settled and is_settled
        if filled:
            yield from with_state(filled, from_millis(start_ms) + _WINDOW)
    rest = fold.rest()
    if rest is not None:
        yield from with_state([rest], stretch.end)


def _windows_of(stretch: Stretch) -> range:
    """Return when the windows of a stretch begin, as ms since the epoch."""
    return range(to_millis(stretch.start), to_millis(stretch.end), Interval.FIVE_MINUTES.ms)


def _require_all(part: Bar, trades: int) -> None:
    """Check that silver has all the trades of a final bar.

    Raises:
        ExpiredError: it does not.
    """
    if part.is_final and trades < part.trade_count:
        every = counted(part.trade_count, "trade")
        message = (
            f"Silver has {trades:,} of the {every} of {part.symbol} from "
            f"{iso(part.window_start)} on: they expire after TAPELINE_CASSANDRA__SILVER_TTL_S. Ask "
            "for the time after them, or for bars of a length of time, which are kept."
        )
        raise ExpiredError(message)
