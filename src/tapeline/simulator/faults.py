"""Make a feed as faulty as real ones are: seeded, so that a run can be repeated.

The faults are those that users of the feed have reported: frames delivered again, out of
order, late, malformed; lost connections; silence.
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tapeline.model.errors import UsageError
from tapeline.simulator.feed import Feed, FeedEvent, FeedFrame, Outage

FAULT_HELP: Final = (
    "A fault, repeatable: redeliver=0.1 or redeliver=0.1:60s (share of frames sent again up to "
    "60 s later), repeat=0.1 (share sent two or three times at once), reorder=5m (each frame up "
    "to 5 min late), late=0.01:11m-40m (share of trades), "
    "drop=60s:90s or silence=10m:5m (after the start: for so long), malformed=0.01 (share of "
    "frames followed by one that is no JSON), bad=0.01 (share of frames with a bad trade)."
)

_UNIT_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_REDELIVER_WITHIN_MS: Final = 60_000
_MOST_AT_ONCE: Final = 3

_MALFORMED: Final = ('{"data":[{"s":"', "not json", '{"type":"trade","data":[{"p":NaN}]}', "[]]")
# Each replaces fields of a good trade; none of the results is a trade.
_BAD_FIELDS: Final[tuple[dict[str, Any], ...]] = (
    {"p": "189.13"},
    {"p": -1.0},
    {"p": 1e300},
    {"v": None},
    {"v": -5},
    {"s": ""},
    {"s": 7},
    {"t": 1_700_000_000},
    {"t": 4_070_908_800_000},
    {"c": "1"},
)


@dataclass(frozen=True, slots=True)
class Interruption:
    """A time after the feed's start, and for how long, both in ms."""

    after_ms: int
    for_ms: int


@dataclass(frozen=True, slots=True)
class Faults:
    """Which faults, how often and how strong. Shares are from 0 to 1, times in ms."""

    redeliver: float = 0.0
    redeliver_within_ms: int = _REDELIVER_WITHIN_MS
    repeat: float = 0.0
    reorder_ms: int = 0
    late: float = 0.0
    late_from_ms: int = 0
    late_to_ms: int = 0
    drops: tuple[Interruption, ...] = ()
    silences: tuple[Interruption, ...] = ()
    malformed: float = 0.0
    bad: float = 0.0


def parse_faults(texts: Sequence[str]) -> Faults:
    """Read faults as written on the command line, e.g. `redeliver=0.1`.

    Raises:
        UsageError: one of them is not of the form that `--help` shows.
    """
    faults = Faults()
    for text in texts:
        name, _, value = text.partition("=")
        try:
            faults = _with_fault(faults, name, value)
        except ValueError:
            message = f"{text!r} is no fault. {FAULT_HELP}"
            raise UsageError(message) from None
    return faults


class FaultyFeed:
    """A feed with faults; its trades are the other feed's, none split from its millisecond.

    All trades of one symbol and millisecond that share a frame stay together, so that what a
    client can tell apart does not depend on the faults. A tape's faults are the same at each
    playing.
    """

    def __init__(self, feed: Feed, faults: Faults, seed: int) -> None:
        self._feed = feed
        self._faults = faults
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - faults, not secrets
        self._numbers = itertools.count()
        self.symbols = feed.symbols
        self.start_ms = feed.start_ms
        self.is_live = feed.is_live

    def frames(self, now_ms: int) -> Iterator[FeedEvent]:
        """Yield the feed's frames as faults leave them, and the outages."""
        if not self.is_live:
            self._random = random.Random(self._seed)  # noqa: S311 - as above
            self._numbers = itertools.count()
        pending = [o for o in self._outages() if o.until_ms > now_ms or not self.is_live]
        outage: Outage | None = None
        for frame in self._in_order_of_arrival(self._feed.frames(now_ms)):
            while pending and frame.due_ms >= pending[0].due_ms:
                begun = pending.pop(0)
                until_ms = max(begun.until_ms, outage.until_ms if outage else 0)
                outage = replace(begun, until_ms=until_ms)
                yield outage
            if outage is None or frame.due_ms >= outage.until_ms:
                yield frame

    def _outages(self) -> list[Outage]:
        spans = [(s, True) for s in self._faults.drops] + [
            (s, False) for s in self._faults.silences
        ]
        outages = []
        for span, is_drop in spans:
            due_ms = self.start_ms + span.after_ms
            outages.append(Outage(due_ms, due_ms + span.for_ms, is_drop))
        return sorted(outages, key=lambda outage: outage.due_ms)

    def _in_order_of_arrival(self, frames: Iterator[FeedEvent]) -> Iterator[FeedFrame]:
        waiting: list[tuple[int, int, FeedFrame]] = []
        number = 0
        for frame in frames:
            # What comes of this frame or a later one is not due before it.
            while waiting and waiting[0][0] <= frame.due_ms:
                yield heapq.heappop(waiting)[2]
            assert isinstance(frame, FeedFrame)  # noqa: S101 - faults are not put on top of faults
            for changed in self._changed(frame):
                heapq.heappush(waiting, (changed.due_ms, number, changed))
                number += 1
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _changed(self, frame: FeedFrame) -> Iterator[FeedFrame]:
        faults, rng = self._faults, self._random
        for part in self._without_late(frame):
            if not part.trades:
                continue
            delay_ms = rng.randint(0, faults.reorder_ms)
            delayed = replace(part, due_ms=part.due_ms + delay_ms, number=next(self._numbers))
            if rng.random() < faults.bad:
                delayed = self._with_bad_trade(delayed)
            yield delayed
            if faults.repeat and rng.random() < faults.repeat:
                yield from (delayed for _ in range(rng.randint(1, _MOST_AT_ONCE - 1)))
            if rng.random() < faults.malformed:
                yield FeedFrame(delayed.due_ms, text=rng.choice(_MALFORMED))
            if rng.random() < faults.redeliver:
                again_ms = delayed.due_ms + rng.randint(1, faults.redeliver_within_ms)
                yield replace(delayed, due_ms=again_ms)

    def _without_late(self, frame: FeedFrame) -> Iterator[FeedFrame]:
        """Yield the frame without its late trades, and these in frames of their own."""
        faults, rng = self._faults, self._random
        if not faults.late:
            yield frame
            return
        moments = dict.fromkeys((t["s"], t["t"]) for t in frame.trades)
        late = {moment for moment in moments if rng.random() < faults.late}
        yield replace(frame, trades=[t for t in frame.trades if (t["s"], t["t"]) not in late])
        for moment in moments:
            if moment in late:
                trades = [t for t in frame.trades if (t["s"], t["t"]) == moment]
                delay_ms = rng.randint(faults.late_from_ms, faults.late_to_ms)
                yield FeedFrame(frame.due_ms + delay_ms, trades)

    def _with_bad_trade(self, frame: FeedFrame) -> FeedFrame:
        bad = {**self._random.choice(frame.trades), **self._random.choice(_BAD_FIELDS)}
        index = self._random.randint(0, len(frame.trades))
        trades = [*frame.trades[:index], bad, *frame.trades[index:]]
        return replace(frame, trades=trades, bad=frozenset({index}))


def _with_fault(faults: Faults, name: str, value: str) -> Faults:
    first, _, second = value.partition(":")
    changes: dict[str, Any]
    match name:
        case "redeliver":
            within_ms = _milliseconds(second) if second else _REDELIVER_WITHIN_MS
            changes = {"redeliver": _share(first), "redeliver_within_ms": max(within_ms, 1)}
        case "reorder":
            changes = {"reorder_ms": _milliseconds(value)}
        case "late":
            from_ms, to_ms = (_milliseconds(part) for part in second.split("-"))
            if from_ms > to_ms:
                raise ValueError(second)
            changes = {"late": _share(first), "late_from_ms": from_ms, "late_to_ms": to_ms}
        case "drop":
            changes = {"drops": (*faults.drops, _span(first, second))}
        case "silence":
            changes = {"silences": (*faults.silences, _span(first, second))}
        case "malformed" | "bad" | "repeat":
            changes = {name: _share(value)}
        case _:
            raise ValueError(name)
    return replace(faults, **changes)


def _span(after: str, length: str) -> Interruption:
    return Interruption(_milliseconds(after), _milliseconds(length))


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError(text)
    return share


def _milliseconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)(ms|s|m|h)", text)
    if found is None:
        raise ValueError(text)
    return int(found[1]) * _UNIT_MS[found[2]]
