"""What a simulator has sent, counted by itself, and what silver must therefore hold.

It knows which frames it sent twice, so this is a count of facts and not a copy of the
client's way of telling duplicates from twins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from tapeline.simulator.feed import FeedFrame

_SAME_MILLISECOND_S: Final = 2.0
"""For so long of the feed's time after a millisecond's first trade, one sent again looks like a
twin."""
_LINE_S: Final = 0.05
"""How much later than another a frame may reach the client, compared with when they were sent."""


@dataclass(slots=True)
class SentReport:
    """Counts since the tape's start.

    `trades` counts good trades, each time they were sent; `redelivered` those sent again, and
    `ambiguous` those of them that no client can tell from twins: their frame holds one trade, or
    equal ones, and nothing newer of their symbol came in between. Of `unsure` ones among them it
    depends on the line. `ambiguous_volume` holds their size by symbol and five-minute window (ms).
    `cuts` counts readers who were cut off because they were too slow.
    """

    frames: int = 0
    trades: int = 0
    redelivered: int = 0
    ambiguous: int = 0
    unsure: int = 0
    bad_trades: int = 0
    malformed_frames: int = 0
    drops: int = 0
    silences: int = 0
    cuts: int = 0
    ambiguous_volume: dict[str, float] = field(default_factory=dict)

    @property
    def silver(self) -> int:
        """How many trades silver must hold, `unsure` fewer at least."""
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
    """Keeps the report of one feed, over all its connections.

    Args:
        monotonic: seconds on a clock that never steps.
        speed: seconds of the feed in one of them; None when the tape is sent without a clock,
            so that only its newest event time tells how far it is.
    """

    def __init__(self, monotonic: Callable[[], float], speed: float | None = 1.0) -> None:
        self._monotonic = monotonic
        self._speed = speed
        self._newest: dict[str, tuple[int, float]] = {}
        self._tape_s = 0.0
        self._sent: set[int] = set()
        self.report = SentReport()

    def start_anew(self) -> None:
        """Begin again: the tape is sent from its start once more."""
        self.report = SentReport()
        self.connect()
        self._sent = set()

    def connect(self) -> None:
        """Note a new connection, on which a client counts again."""
        self._newest = {}
        self._tape_s = 0.0

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
        good = [trade for i, trade in enumerate(frame.trades) if i not in frame.bad]
        now_s = self._feed_s(good)
        alike = all(trade == good[0] for trade in good)
        for trade in good:
            report.trades += 1
            report.redelivered += is_again
            since_s = self._since_newest(trade, now_s)
            if is_again and alike and since_s is not None:
                self._note_ambiguous(trade, since_s)

    def _note_ambiguous(self, trade: dict[str, Any], since_s: float) -> None:
        line_s = 0.0 if self._speed is None else _LINE_S * self._speed
        if since_s > _SAME_MILLISECOND_S + line_s:
            return
        report = self.report
        report.ambiguous += 1
        report.unsure += since_s > _SAME_MILLISECOND_S - line_s and line_s > 0
        key = f"{trade['s']}|{trade['t'] // 300_000 * 300_000}"
        report.ambiguous_volume[key] = report.ambiguous_volume.get(key, 0.0) + trade["v"]

    def _feed_s(self, trades: list[dict[str, Any]]) -> float:
        if self._speed is not None:
            return self._monotonic() * self._speed
        self._tape_s = max([self._tape_s, *(trade["t"] / 1000 for trade in trades)])
        return self._tape_s

    def _since_newest(self, trade: dict[str, Any], now_s: float) -> float | None:
        """Return for how long the trade's millisecond is its symbol's newest; None if it is not."""
        symbol, time_ms = trade["s"], trade["t"]
        newest_ms, since_s = self._newest.get(symbol, (-1, now_s))
        if time_ms > newest_ms:
            self._newest[symbol] = (time_ms, now_s)
            return None  # on a new connection the client counts it as the first again
        return now_s - since_s if time_ms == newest_ms else None
