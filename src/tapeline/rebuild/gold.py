"""Gold from silver: final bars computed again, beside the stream that finalizes.

Nothing makes a reader see a worse bar. A bar is only replaced through `reconcile`, with a
revision, and the windows that the stream is about to finalize are its own. A window is looked at
in this order: is it due; what stands there; its trades; is it due now, or has it been
written meanwhile; write. So whoever read fewer trades of a window than we did, and has not
written yet, still has the window due, and we leave it alone; it is looked at again at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from tapeline.finalize.bar_rules import BarRules
from tapeline.finalize.bar_writer import BarWriter, Computed, Written
from tapeline.finalize.final_bars import has_expired, shrinks
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.rebuild.plan import Hour, Plan, hour_of, in_chunks
from tapeline.rebuild.progress import Progress
from tapeline.storage.bar_rows import StoredBar
from tapeline.storage.cassandra_client import CassandraClient

ROUND_S: Final = 60.0
"""A chunk of finalizing that is under way has ended after this long."""
_POLL_S: Final = 2.0
_TRIES: Final = 3
"""How often a window is looked at again that the stream has worked on meanwhile."""


class GoldRebuild:
    """Rebuilds five-minute bars from silver, and the hours that they are in.

    Args:
        writer: computes and writes bars.
        client: reads what is due and what is stored.
        plan: what is known of each window besides.
        rules: how bars are made.
        allow_shrink: let a final bar have fewer trades than before.
        has_new_trades: silver has just been rebuilt, so that a round of finalizing under way may
            have read less than it holds now.
        wait_s: how long to wait for windows that the stream works on.
    """

    def __init__(
        self,
        writer: BarWriter,
        client: CassandraClient,
        plan: Plan,
        rules: BarRules,
        *,
        allow_shrink: bool = False,
        has_new_trades: bool = False,
        wait_s: float = ROUND_S,
    ) -> None:
        self._writer = writer
        self._client = client
        self._received = plan.received
        self._stateless = plan.stateless
        self._rules = rules
        self._allow_shrink = allow_shrink
        self._has_new_trades = has_new_trades
        self._wait_s = wait_s

    def run(
        self,
        hours: Sequence[Hour],
        progress: Progress,
        advanced: Callable[[int], None],
    ) -> None:
        """Rebuild hours in their order, after the one that the progress names.

        Args:
            hours: all of them, oldest first.
            progress: brought up to date after each chunk.
            advanced: called after each chunk with its number of windows.
        """
        done = progress.hour
        rest = [h for h in hours if done is None or (h.start, h.symbol) > done]
        for chunk in in_chunks(rest, self._rules.max_windows):
            self._rebuild(chunk, progress, has_new_trades=self._has_new_trades)
            progress.hour = chunk[-1].start, chunk[-1].symbol
            windows = sum(len(h.selected) for h in chunk)
            progress.windows += windows
            advanced(windows)
        self._look_again(hours, progress)
        due, _ = self._due()
        raced = {k for h in hours if h.key in progress.raced for k in h.windows}
        progress.left.add(k for h in hours for k in h.windows if k in due | raced)

    def _rebuild(
        self, chunk: Sequence[Hour], progress: Progress, *, has_new_trades: bool = False
    ) -> None:
        due, due_hours = self._due()
        keys = [k for h in chunk for k in h.windows]
        if has_new_trades:
            progress.raced |= {hour_of(k) for k in keys if k in due}
        written = self._windows([k for k in keys if k not in due], progress)
        progress.written.add(written)
        # A round under way may have read the bars of such an hour before we wrote them.
        progress.raced |= {hour_of(k) for k in written} & due_hours
        self._hours([h for h in chunk if h.key not in due_hours], progress)

    def _windows(self, keys: Sequence[WindowKey], progress: Progress) -> list[WindowKey]:
        """Rebuild five-minute bars; return those that were written."""
        computed = self._writer.compute(Interval.FIVE_MINUTES, keys, self._received)
        foreign = {k for k in keys if k in self._stateless and not _is_final(computed.stored, k)}
        progress.left.add(sorted(foreign))
        progress.expired.add(computed.expired)
        found = {*_keys(computed), *computed.expired}
        progress.empty.add(k for k in keys if k not in found)
        outcome = self._store(computed.without(foreign), progress)
        progress.kept.add(outcome.kept)
        if self._rules.stores_1m:
            ours = [k for k in keys if k not in foreign]
            minutes = self._writer.compute(Interval.ONE_MINUTE, ours, self._received)
            self._store(minutes, progress)
        return outcome.written

    def _hours(self, hours: Sequence[Hour], progress: Progress) -> None:
        """Rebuild the hours of which every five-minute bar is final."""
        parts = [(h.symbol, start) for h in hours for start in h.known]
        stored = self._client.stored_bars(Interval.FIVE_MINUTES, parts)
        whole = [
            h.key for h in hours if all(_is_final(stored, (h.symbol, start)) for start in h.known)
        ]
        computed = self._writer.compute(Interval.ONE_HOUR, whole)
        fragments = [_key(bar) for bar in computed.bars if self._is_fragment(bar, computed)]
        if self._allow_shrink:
            progress.kept.add(fragments)
            computed = computed.without(fragments)
        progress.written_hours.add(self._store(computed, progress).written)

    def _is_fragment(self, hour: Bar, computed: Computed) -> bool:
        """Return whether an hour would lose trades that may only have expired.

        Its five-minute bars expire one by one, and cannot be made again once silver's trades have.
        """
        stored = computed.stored.get(_key(hour))
        return shrinks(stored, hour) and has_expired(stored, self._rules.silver_ttl, computed.at)

    def _store(self, computed: Computed, progress: Progress) -> Written:
        """Write what the stream has not affected since it was read."""
        windows, hours = self._due()
        due = hours if computed.interval is Interval.ONE_HOUR else windows
        keys = _keys(computed)
        now = self._client.stored_bars(computed.interval, keys)
        raced = {
            k
            for k in keys
            if _finalized_with(k, computed.interval) in due
            or _write_time(now, k) != _write_time(computed.stored, k)
        }
        progress.raced |= {hour_of(k) for k in raced}
        return self._writer.store(computed.without(raced), allow_shrink=self._allow_shrink)

    def _look_again(self, hours: Sequence[Hour], progress: Progress) -> None:
        """Rebuild what the stream worked on, once its round has ended."""
        for _ in range(_TRIES):
            raced = [h for h in hours if h.key in progress.raced]
            if not raced:
                return
            self._await_round(raced)
            again = Progress(started_at=progress.started_at)
            for chunk in in_chunks(raced, self._rules.max_windows):
                self._rebuild(chunk, again)
            progress.written.merge(again.written)
            progress.written_hours.merge(again.written_hours)
            progress.raced = again.raced

    def _await_round(self, hours: Sequence[Hour]) -> None:
        """Wait until nothing of some hours is due, or no round under way can still be the same."""
        deadline = time.monotonic() + self._wait_s
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            due, due_hours = self._due()
            if not any(h.key in due_hours or not due.isdisjoint(h.windows) for h in hours):
                return

    def _due(self) -> tuple[set[WindowKey], set[WindowKey]]:
        """Return the windows and the hours that the stream is about to finalize."""
        windows, hours = set(), set()
        for state in self._client.due_states():
            key = state.symbol, state.window_start
            if state.affected_offset > state.finalized_offset:
                windows.add(key)
            hours.add(hour_of(key))
        return windows, hours


def _key(bar: Bar) -> WindowKey:
    return bar.symbol, bar.window_start


def _keys(computed: Computed) -> list[WindowKey]:
    return [_key(bar) for bar in computed.bars]


def _is_final(stored: Mapping[WindowKey, StoredBar], key: WindowKey) -> bool:
    return key in stored and stored[key].bar.is_final


def _write_time(stored: Mapping[WindowKey, StoredBar], key: WindowKey) -> int | None:
    return stored[key].write_time_us if key in stored else None


def _finalized_with(key: WindowKey, interval: Interval) -> WindowKey:
    """Return the window whose state tells whether a bar is due."""
    symbol, start = key
    if interval is Interval.ONE_MINUTE:
        start -= timedelta(minutes=start.minute % 5)
    return symbol, start
