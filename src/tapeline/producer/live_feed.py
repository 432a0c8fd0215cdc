"""A feed of the present: its clock is checked, and what is missed of it is reported.

The times and holes of a tape do not lie in the present, so a tape is read without all this.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from tapeline.model.gap import Gap, GapKind
from tapeline.model.reasons import LATEST_AHEAD_MS
from tapeline.producer.attention import TICK_S, Attention
from tapeline.producer.clock import OLDEST_S, ClockCheck, ClockWarning
from tapeline.producer.feed_client import FeedClient, Frame
from tapeline.producer.gap_reporter import GapReporter
from tapeline.producer.healer import Healer
from tapeline.producer.history import HistoryClient
from tapeline.producer.holes import Hole
from tapeline.producer.id_file import IdFile, Run
from tapeline.producer.id_watch import IdWatch
from tapeline.producer.intake import Intake, Parsed, read_frame
from tapeline.producer.lateness import Lateness
from tapeline.producer.left_spools import LeftSpools
from tapeline.producer.outbox import Outbox
from tapeline.producer.validation import TradeFrame, WireTrade
from tapeline.program.metrics import (
    CLOCK_OFFSET,
    CLOCK_WRONG,
    GAP_OPEN,
    GAPS,
    SPOOL_HOLES,
    Metrics,
)

_ANY_TIME_MS: Final = 1 << 62
_KEEP_EVERY_S: Final = 10.0
_TOLD_WHEN_OVER: Final = frozenset({GapKind.DROPPED, GapKind.SKIPPED})
"""Any other gap is told when it begins, and again when it ends."""


class _Taken(NamedTuple):
    """The runs of numbers at one moment; they are among the first `messages` that were added."""

    runs: dict[str, list[Run]]
    messages: int
    until_us: int
    """The newest receipt until then, µs since the epoch."""


class LiveFeed:
    """Reads one client, and reports the gaps of its feed.

    Args:
        client: the feed's.
        gaps: tells and reports gaps; frames are stamped by its clock.
        intake: where frames go.
        outbox: where reports go; its damage is a gap too.
        metrics: where gaps, damage and the clock's error are told.
        history: where trades that were missed are fetched, if anywhere.
        numbers: where those of the newest trades are kept for the next run.
    """

    def __init__(
        self,
        client: FeedClient,
        gaps: GapReporter,
        intake: Intake,
        outbox: Outbox,
        metrics: Metrics,
        history: HistoryClient | None = None,
        numbers: IdFile | None = None,
    ) -> None:
        self._client = client
        self.gaps = gaps
        """Tells gaps."""
        self._intake = intake
        self._outbox = outbox
        self._clock = gaps.clock
        self._check = ClockCheck(self._clock)
        self._warning = ClockWarning(self._clock)
        self._lateness = Lateness()
        self._ids = IdWatch()
        if numbers is not None and not client.feed.has_ids:
            numbers.delete()
        self._numbers = numbers if client.feed.has_ids else None
        self._kept_s, self._taken = 0.0, self._taken_now()
        self._attention = Attention(self._clock.steady_s())
        self._healer: Healer | None = None
        if history is not None:
            filled = self._ids.filled
            self._healer = Healer(history, self._take_history, self._delivered, filled)
        self._holes, self._begun = metrics[SPOOL_HOLES], metrics[GAPS]
        metrics[GAP_OPEN].set_function(lambda: gaps.watch.is_open)
        metrics[CLOCK_WRONG].set_function(lambda: self._warning.is_wrong)
        metrics[CLOCK_OFFSET].set_function(self._host_ahead_s)
        client.on_loss = self.on_disconnect
        outbox.groups.on_hole = self._lost_on_disk
        gaps.send = self._send

    def start(self, holes: Sequence[Hole], left: LeftSpools) -> None:
        """Report the time since the previous run, and what is damaged on disk."""
        self._go_on_from_numbers()
        for hole in holes:
            self._lost_on_disk(hole)
        self.gaps.report(self.gaps.watch.started(self._clock.now_us()))
        left.tell(self._lost_by_another)

    async def read(self) -> None:
        """Read until the feed says that it has ended.

        Raises:
            FeedError: the feed refuses us for good.
        """
        ticking = asyncio.create_task(self._tick())
        attention, now_s = self._attention, self._clock.steady_s
        try:
            attention.waits(now_s())
            async for frame in self._client.frames():
                attention.reads(frame.monotonic_s)
                self._admit(frame)
                attention.waits(now_s())
        finally:
            self._take_all(self._check.release())
            ticking.cancel()

    async def change(self, symbols: Sequence[str]) -> None:
        """Receive just these symbols from now on; nothing of those that stay is missed."""
        before, now_us = self._client.symbols, self._clock.now_us()
        watch = self.gaps.watch
        # What was under way when it was no longer asked for does not come either.
        self._client.slots.changed(before, symbols, now_us - watch.late_us)
        self.gaps.report(watch.subscribed(tuple(symbols), now_us, self._clock.steady_s()))
        self._ids.subscribed(symbols)
        await self._client.change(symbols)

    async def heal(self) -> None:
        """Fetch what is missed, where it can be, until cancelled."""
        if self._healer is None:
            await asyncio.Event().wait()
        else:
            await self._healer.run()

    def take(self, frame: Frame, message: Parsed) -> None:
        """Take one frame and what was read in it, and report the gap that it ends or is."""
        self._intake.take(frame, message)
        if frame.is_too_large:
            return  # the connection is gone with such a frame, and that gap goes on
        received_us, kept_up_us = frame.received_at_us, self._kept_up_us()
        trades = message.trades if isinstance(message, TradeFrame) else ()
        newest_ms = _newest_ms(message)
        if newest_ms is not None and kept_up_us is None:  # else it is we who are late
            self._note_lateness(received_us, newest_ms)
        rejects = message.rejects if isinstance(message, TradeFrame) else ()
        watch, report = self.gaps.watch, self.gaps.report
        if any(reject.index is None for reject in rejects):
            report(watch.dropped(received_us, kept_up_us))
        has_ids = self._client.feed.has_ids
        for hole in self._ids.note(trades, received_us) if has_ids else ():
            report(watch.skipped(hole, received_us))
            if self._healer is not None:
                self._healer.want(hole)
        has_waited = frame.connection <= self._client.lost_connection  # such a one ends no gap
        if not has_waited and (self._client.is_subscribed or not has_ids):
            symbols = {trade.symbol for trade in trades}
            report(watch.on_message(received_us, frame.monotonic_s, symbols))
        # After its messages: whoever reads this on disk has those too. A frame that is read late
        # may have others behind it in the socket, which a stop would lose.
        self._outbox.on_message(received_us if kept_up_us is None else min(received_us, kept_up_us))

    def _take_history(self, trades: Sequence[WireTrade]) -> None:
        self._intake.take_history(trades, self._clock.now_us())

    async def _delivered(self) -> None:
        await self._outbox.delivered()

    def _note_lateness(self, received_us: int, newest_ms: int) -> None:
        if received_us / 1e6 - newest_ms / 1000 <= OLDEST_S:
            self._lateness.note(received_us, newest_ms)
            self.gaps.watch.late_us = self._lateness.most_us

    def look_after(self) -> None:
        """Look for silence, for a clock that is wrong, and for frames that wait for it."""
        self._take_all(self._check.expire())
        self._warning.check()
        self.gaps.report(self.gaps.watch.check(self._clock.now_us(), self._clock.steady_s()))
        if self._client.feed.has_ids:
            self.gaps.heal(self._ids.covers, self._outbox.producer.last_offsets)

    def keep_numbers(self) -> None:
        """Write the numbers that were the newest some seconds ago, once their trades are on disk.

        Of others the next run would not know that they were lost.
        """
        now_s = self._clock.steady_s()
        is_time = now_s - self._kept_s >= _KEEP_EVERY_S
        if is_time and self._keep(self._taken):
            self._kept_s, self._taken = now_s, self._taken_now()

    def keep_last_numbers(self) -> None:
        """Write the newest numbers, if all that was taken is on disk."""
        self._keep(self._taken_now())

    def _taken_now(self) -> _Taken:
        return _Taken(self._ids.runs, self._outbox.added, self._outbox.last_receipt_us or 0)

    def _keep(self, taken: _Taken) -> bool:
        is_on_disk = self._outbox.written >= taken.messages
        if self._numbers is not None and is_on_disk:
            self._numbers.write(self.gaps.topic_id, taken.until_us, taken.runs)
        return is_on_disk

    def _go_on_from_numbers(self) -> None:
        if self._numbers is None:
            return
        gaps, until_us = self.gaps, self.gaps.watch.last_message_us or 0
        known = {
            symbol: runs
            for symbol, runs in self._numbers.read(
                gaps.topic_id, until_us, self._clock.now_us()
            ).items()
            # What came by another feed is there under other ids.
            if symbol in self._client.symbols
            and not gaps.came_by_another_feed(symbol, runs[-1][1].received_us)
        }
        for hole in self._ids.goes_on_from(known):
            if self._healer is not None:
                self._healer.want(hole)
        taken = _Taken(self._ids.runs, 0, until_us)
        self._kept_s, self._taken = self._clock.steady_s(), taken

    def on_disconnect(self, kind: GapKind) -> None:
        """Note that the connection is gone."""
        now_us, kept_up_us = self._clock.now_us(), self._kept_up_us()
        self.gaps.report(self.gaps.watch.on_disconnect(kind, now_us, kept_up_us))

    def _admit(self, frame: Frame) -> None:
        """Take a frame, unless it shall wait until the clock is known."""
        message = read_frame(frame, _ANY_TIME_MS, self._client.feed)
        newest_ms = _newest_ms(message)
        ready = self._check.admit(frame, newest_ms)
        if ready and ready[-1] is frame:
            latest_ms = frame.received_at_us // 1000 + LATEST_AHEAD_MS
            if newest_ms is None or newest_ms <= latest_ms:
                self._take_all(ready[:-1])
                self.take(frame, message)
                return
        self._take_all(ready)

    def _take_all(self, frames: Sequence[Frame]) -> None:
        feed = self._client.feed
        for frame in frames:
            self.take(frame, read_frame(frame, frame.received_at_us // 1000, feed))

    async def _tick(self) -> None:
        while True:
            self._attention.tick(self._clock.steady_s())
            await asyncio.sleep(TICK_S)

    def _kept_up_us(self) -> int | None:
        """Return when messages were last read as soon as they came; None if they are now."""
        behind_s = self._attention.last_kept_up_s(self._clock.steady_s())
        return None if behind_s is None else self._clock.at_us(behind_s)

    def _lost_on_disk(self, hole: Hole) -> None:
        self._holes.inc()
        self.gaps.damaged(hole)

    def _lost_by_another(self, producer_id: str, hole: Hole) -> None:
        self._holes.inc()
        self.gaps.damaged_of(producer_id, hole)

    def _send(self, gap: Gap) -> None:
        if gap.healed_us is None:
            if gap.ended_us is None or gap.kind in _TOLD_WHEN_OVER:
                self._begun.labels(kind=gap.kind.value).inc()
            if gap.kind.marks_bars:
                self._outbox.dated(gap.started_us)
        self._outbox.add(self.gaps.topic, gap.key.encode(), gap.to_bytes())

    def _host_ahead_s(self) -> float:
        ahead_s = self._clock.host_ahead_s()
        return math.nan if ahead_s is None else ahead_s


def _newest_ms(message: Parsed) -> int | None:
    """Return the event time of a frame's newest trade, ms since the epoch; None without one."""
    if not isinstance(message, TradeFrame):
        return None
    return max((trade.event_time_ms for trade in message.trades), default=None)
