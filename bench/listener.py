"""Listeners of `/v1/stream`, and readers of gold: when did each trade become visible?"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson
from cassandra import InvalidRequest
from cassandra.cluster import Session
from cassandra.query import PreparedStatement

from bench.feed import Sent, TradeKey
from bench.truth import FIVE_MINUTES_MS, Window

_READ_S: Final = 0.05
_LINE_BYTES: Final = 1 << 20


@dataclass(slots=True)
class Seen:
    """How far each window was seen to be, whenever it got further: (window, trades, time in s)."""

    counts: list[tuple[Window, int, float]] = field(default_factory=list)
    trades: list[tuple[TradeKey, float]] = field(default_factory=list)
    finals: set[tuple[str, str, int]] = field(default_factory=set)
    events: int = 0
    was_cut: bool = False
    _newest: dict[Window, int] = field(default_factory=dict)

    def count(self, window: Window, trades: int, at_s: float) -> None:
        """Note how many trades a window has."""
        if trades > self._newest.get(window, 0):
            self._newest[window] = trades
            self.counts.append((window, trades, at_s))


def delays(seen: Seen, sent: Sent, since_s: float, until_s: float) -> list[float]:
    """Return how long each trade took that was sent in a time, until a bar had it (s).

    Every trade counts, so the wait for the next look or event is in it.
    """
    found: list[float] = []
    known: dict[Window, int] = {}
    for window, trades, at_s in seen.counts:
        new = sent.windows.get(window, [])[known.get(window, 0) : trades]
        found.extend(at_s - sent_s for sent_s in new if since_s <= sent_s < until_s)
        known[window] = trades
    return found


def trade_delays(seen: Seen, sent: Sent, since_s: float, until_s: float) -> list[float]:
    """Return how long each trade took until an event `trade` told of it (s)."""
    return [
        at_s - sent_s
        for key, at_s in seen.trades
        if (sent_s := sent.trades.get(key)) is not None and since_s <= sent_s < until_s
    ]


async def listen(url: str, symbols: Sequence[str], channels: str, seen: Seen) -> None:
    """Read events over HTTP/1.0, which sends them as they are, until cancelled."""
    parts = urlsplit(url)
    query = f"symbols={quote(','.join(symbols))}&interval=5m"
    if channels != "bars":
        query += f"&channels={channels}"
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=_LINE_BYTES)
    writer.write(f"GET /v1/stream?{query} HTTP/1.0\r\n\r\n".encode())
    kind = b""
    try:
        status = await reader.readline()
        if b" 200 " not in status:
            message = f"{url}/v1/stream answers {status.decode().strip()}"
            raise RuntimeError(message)
        while line := await reader.readline():
            if line.startswith(b"event: "):
                kind = line[7:].strip()
            elif line.startswith(b"data: "):
                _take(kind, orjson.loads(line[6:]), seen)
        seen.was_cut = True
    finally:
        writer.close()


def _take(kind: bytes, data: Mapping[str, Any], seen: Seen) -> None:
    now_s = time.time()
    seen.events += 1
    if kind == b"bar":
        if data["is_final"]:
            seen.finals.add((data["symbol"], data["window_start"], data["revision"]))
        seen.count((data["symbol"], _millis(data["window_start"])), data["trade_count"], now_s)
    elif kind == b"trade":
        key = data["symbol"], _millis(data["event_time"]), data["volume"]
        seen.trades.append((key, now_s))


def _millis(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return round(moment.timestamp() * 1000)


class GoldReader:
    """Reads the bars of a few symbols twenty times a second, in a thread of its own."""

    def __init__(self, session: Session, keyspace: str, symbols: Sequence[str]) -> None:
        self.seen = Seen()
        self._symbols = symbols
        self._session = session
        self._text = (
            f"SELECT trade_count FROM {keyspace}.trades_gold_5m "
            "WHERE symbol = ? AND period = ? AND window_start = ?"
        )
        self._query: PreparedStatement | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gold-reader", daemon=True)

    def __enter__(self) -> Callable[[], Seen]:
        """Begin; return what gives what was seen."""
        self._thread.start()
        return lambda: self.seen

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_READ_S):
            if self._query is None:
                with suppress(InvalidRequest):  # the table is not there yet
                    self._query = self._session.prepare(self._text)
                continue
            now_ms = int(time.time() * 1000)
            current = now_ms - now_ms % FIVE_MINUTES_MS
            for start_ms in (current - FIVE_MINUTES_MS, current):
                self._read(start_ms)

    def _read(self, start_ms: int) -> None:
        start = datetime.fromtimestamp(start_ms / 1000, timezone.utc)
        for symbol in self._symbols:
            key = symbol, start.date().replace(day=1), start
            row = self._session.execute(self._query, key).one()
            if row is not None:
                self.seen.count((symbol, start_ms), row.trade_count, time.time())
