"""Make the bars of a topic's due windows and hours, write what changes, and mark them finalized."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from tapeline.finalize.bar_writer import BarWriter, Written, first_receipts
from tapeline.finalize.open_windows import OpenWindows
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import StatesOfWindows


class DueBars:
    """Finalizes chunks of windows and hours; each is written before it is marked.

    Raises RestartedError, and marks nothing, where Cassandra may have forgotten what was written.

    Args:
        client: marks them.
        writer: computes and writes bars.
        states: where what is open is remembered.
        stores_1m: keep bars of one minute too.
        remembered: the bars of windows of which every trade is known.
    """

    def __init__(
        self,
        client: CassandraClient,
        writer: BarWriter,
        states: OpenWindows,
        *,
        stores_1m: bool,
        remembered: Callable[[StatesOfWindows], Mapping[WindowKey, Bar]] = lambda _: {},
    ) -> None:
        self._client = client
        self._writer = writer
        self._states = states
        self._stores_1m = stores_1m
        self._remembered = remembered

    def finalize_windows(self, due: StatesOfWindows) -> Written:
        """Finalize five minutes, and their minutes where these are stored."""
        states = [s for group in due.values() for s in group]
        received = first_receipts(states)
        with self._client.in_one_life():
            outcome = self._writer.write(
                Interval.FIVE_MINUTES,
                list(due),
                received,
                lambda windows: self._remembered({window: due[window] for window in windows}),
            )
            if self._stores_1m:
                self._writer.write(Interval.ONE_MINUTE, list(due), received)
        finalized = [
            replace(
                s,
                finalized_offset=s.affected_offset,
                first_received_at=outcome.received.get(key, s.first_received_at),
            )
            for key, group in due.items()
            for s in group
        ]
        self._client.mark_finalized(finalized, Interval.FIVE_MINUTES)
        self._states.update(finalized)
        return outcome

    def finalize_hours(self, due: StatesOfWindows) -> Written:
        """Finalize hours from their five minutes."""
        with self._client.in_one_life():
            outcome = self._writer.write(Interval.ONE_HOUR, list(due))
        states = [s for group in due.values() for s in group]
        self._client.mark_finalized(states, Interval.ONE_HOUR)
        self._states.remove(states)
        return outcome
