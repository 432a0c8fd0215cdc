"""What a simulator has sent, counted by itself, and what silver must therefore hold.

It knows which frames it sent twice, so this is a count of facts and not a copy of the
client's way of telling duplicates from twins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from tapeline.simulator.feed import FeedFrame

_SAME_MILLISECOND_S: Final = 2.0
"""For so long after a millisecond's first trade, one of it sent again looks like a twin."""


@dataclass(slots=True)
class SentReport:
    """Counts since the tape's start.

    `trades` counts good trades, each time they were sent; `redelivered` those sent again, and
    `ambiguous` those of them that no client can tell from twins: nothing newer of their symbol
    came in between. `ambiguous_volume` holds their size by symbol and five-minute window (ms).
    `cuts` counts readers who were cut off because they were too slow.
    """

    frames: int = 0
    trades: int = 0
    redelivered: int = 0
    ambiguous: int = 0
    bad_trades: int = 0
    malformed_frames: int = 0
    drops: int = 0
    silences: int = 0
    cuts: int = 0
    ambiguous_volume: dict[str, float] = field(default_factory=dict)

    @property
    def silver(self) -> int:
        """How many trades silver must hold."""
        return self.trades - self.redelivered + self.ambiguous

    @property
    def dead_letters(self) -> int:
        """How many frames or trades must be dead letters."""
        return self.bad_trades + self.malformed_frames

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_bytes(orjson.dumps({**asdict(self), "silver": self.silver}))

    @classmethod
    def read(cls, path: Path) -> SentReport:
        """Read back what `write` wrote."""
        values: dict[str, Any] = orjson.loads(path.read_bytes())
        del values["silver"]
        return cls(**values)


class Ledger:
    """Keeps the report of one feed, over all its connections."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._newest: dict[str, tuple[int, float]] = {}
        self._sent: set[int] = set()
        self.report = SentReport()

    def start_anew(self) -> None:
        """Begin again: the tape is sent from its start once more."""
        self.report = SentReport()
        self._newest = {}
        self._sent = set()

    def connect(self) -> None:
        """Note a new connection, on which a client knows nothing of those before."""
        self._newest = {}

    def record(self, frame: FeedFrame) -> None:
        """Note a frame that has been sent."""
        report = self.report
        report.frames += 1
        if frame.text is not None:
            report.malformed_frames += 1
            return
        report.bad_trades += len(frame.bad)
        # Not every copy is one: the first may have fallen into an outage.
        is_again = frame.number in self._sent
        if frame.number is not None:
            self._sent.add(frame.number)
        volumes: Counter[str] = Counter()
        for index, trade in enumerate(frame.trades):
            if index in frame.bad:
                continue
            report.trades += 1
            report.redelivered += is_again
            if self._looks_new(trade) and is_again:
                report.ambiguous += 1
                volumes[f"{trade['s']}|{trade['t'] // 300_000 * 300_000}"] += trade["v"]
        for key, volume in volumes.items():
            report.ambiguous_volume[key] = report.ambiguous_volume.get(key, 0.0) + volume

    def _looks_new(self, trade: dict[str, Any]) -> bool:
        """Tell whether nothing newer of the symbol has been sent on this connection."""
        symbol, time_ms, now_s = trade["s"], trade["t"], self._monotonic()
        newest_ms, since_s = self._newest.get(symbol, (-1, now_s))
        if time_ms > newest_ms:
            self._newest[symbol] = (time_ms, now_s)
            return True
        return bool(time_ms == newest_ms and now_s - since_s <= _SAME_MILLISECOND_S)
