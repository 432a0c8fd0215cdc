"""A reader that polls every bar of a keyspace and notes whenever it sees a worse one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from tapeline.model.bar import Bar, Interval
from tapeline.storage.cassandra_client import CassandraClient

_PAUSE_S: Final = 0.02
_Key = tuple[Interval, str, datetime]


class Watcher:
    """What one reader saw of all bars, again and again."""

    def __init__(
        self, client: CassandraClient, symbols: set[str], start: datetime, end: datetime
    ) -> None:
        self._client = client
        self._symbols = symbols
        self._range = start, end
        self.seen: dict[_Key, Bar] = {}
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self.worse: list[str] = []
        self.changes = 0
        self.rounds = 0

    @contextmanager
    def watching(self) -> Iterator[Watcher]:
        """Poll in a thread for the length of the block."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join(timeout=60)
        assert self._failure is None, self._failure

    def _run(self) -> None:
        try:
            while not self._stop.wait(_PAUSE_S):
                self._poll()
        except Exception as error:  # noqa: BLE001 - told to the test
            self._failure = error

    def _poll(self) -> None:
        found = {}
        for interval in (Interval.FIVE_MINUTES, Interval.ONE_HOUR):
            for symbol in self._symbols:
                for bar in self._client.bars(symbol, interval, *self._range):
                    found[interval, symbol, bar.window_start] = bar
        for key, before in self.seen.items():
            now = found.get(key)
            if now is None:
                self.worse.append(f"{key} is gone")
                continue
            self.changes += now != before
            for name in ("trade_count", "is_final", "revision"):
                if getattr(now, name) < getattr(before, name):
                    self.worse.append(f"{key}: {name} {getattr(before, name)} → {now}")
        self.seen.update(found)
        self.rounds += 1
