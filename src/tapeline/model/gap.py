"""A time without trades, as a producer reports it, and how such times are joined."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import Enum
from itertools import accumulate
from operator import attrgetter
from typing import Final

import orjson

from tapeline.model.reports import UnreadableReportError, read_report
from tapeline.model.times import to_micros

EVER: Final = 1 << 62
"""Later than any time, in µs since the epoch."""


class GapKind(str, Enum):
    """Why trades may be missing."""

    DISCONNECTED = "disconnected"
    """The connection was lost or could not be made."""
    REFUSED = "refused"
    """The feed answered the handshake with an error."""
    SILENT = "silent"
    """The connection stood and nothing came, not even pings."""
    IDLE = "idle"
    """Pings came and no trade, far longer than usual, while a market was open."""
    DROPPED = "dropped"
    """A frame could not be read, and what it held is not known."""
    STOPPED = "stopped"
    """The producer did not run."""
    SKIPPED = "skipped"
    """The exchange's numbers of one symbol's trades leave some out."""
    SYMBOL_SILENT = "symbol_silent"
    """One symbol had no trade while others did. Reported only: it may have had none."""

    UNKNOWN = "unknown"
    """Of a producer newer than the reader; taken for a hole."""

    @classmethod
    def _missing_(cls, value: object) -> GapKind | None:
        return cls.UNKNOWN if isinstance(value, str) else None

    @property
    def marks_bars(self) -> bool:
        """Whether bars in it are incomplete."""
        return self is not GapKind.SYMBOL_SILENT


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without the trades of some symbols, µs since the epoch.

    It is by receipt, and by event time where numbers were skipped. `ended_us` is None while it
    lasts. `healed` are symbols of which nothing is missing any more: what was had been fetched by
    `healed_us`, and lay in Kafka up to `healed_offsets`, by partition.
    """

    producer_id: str
    topic: str
    topic_id: str
    kind: GapKind
    symbols: tuple[str, ...]
    started_us: int
    ended_us: int | None
    detected_us: int
    healed: tuple[str, ...] = ()
    healed_us: int | None = None
    healed_offsets: dict[int, int] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        """The message key: one gap, while it lasts and when it has ended."""
        return f"{self.topic_id}|{self.producer_id}|{self.kind.value}|{self.started_us}"

    @property
    def healed_key(self) -> str:
        """The message key of what another process than its producer has healed of it."""
        return f"{self.key}|healed"

    @property
    def over_us(self) -> int:
        """When all of it was over and known: numbers that are left out tell it by the next one."""
        return max(EVER if self.ended_us is None else self.ended_us, self.detected_us)

    def touches(self, symbol: str, start: datetime, end: datetime) -> bool:
        """Return whether it marks the bars of a symbol in [start, end)."""
        return (
            self.kind.marks_bars
            and symbol in self.symbols
            and self.started_us < to_micros(end)
            and (self.ended_us is None or self.ended_us > to_micros(start))
        )

    def healed_of(self, symbols: Collection[str], now_us: int, offsets: Mapping[int, int]) -> Gap:
        """Return the gap when nothing of some symbols is missing any more.

        Args:
            symbols: of the gap.
            now_us: when that was known.
            offsets: the newest that Kafka has acknowledged, by partition.
        """
        return replace(
            self,
            symbols=tuple(s for s in self.symbols if s not in symbols),
            healed=(*self.healed, *symbols),
            healed_us=now_us,
            healed_offsets={
                p: max(offsets.get(p, -1), self.healed_offsets.get(p, -1))
                for p in {*offsets, *self.healed_offsets}
            },
        )

    def with_healed(self, other: Gap | None) -> Gap:
        """Return the gap with what another process has healed of it.

        Args:
            other: what that has reported, perhaps of a time when the gap was less long or had fewer
                numbers to it: then it proves nothing.
        """
        if other is None or other.detected_us != self.detected_us or other.ended_us is None:
            return self
        symbols = [symbol for symbol in self.symbols if symbol in other.healed]
        if not symbols or other.ended_us < (self.ended_us or other.ended_us):
            return self
        healed_us = max(self.healed_us or 0, other.healed_us or 0)
        healed = self.healed_of(symbols, healed_us, other.healed_offsets)
        return replace(healed, ended_us=self.ended_us or other.ended_us)

    def with_missing(self, symbols: Collection[str]) -> Gap:
        """Return the gap as it was before some of its healed symbols were healed."""
        healed = tuple(s for s in self.healed if s not in symbols)
        return replace(self, symbols=(*self.symbols, *symbols), healed=healed)

    def to_bytes(self) -> bytes:
        """Encode for Kafka."""
        return orjson.dumps(asdict(self), option=orjson.OPT_NON_STR_KEYS)

    @classmethod
    def from_bytes(cls, value: bytes) -> Gap:
        """Decode from Kafka; fields of a newer producer are ignored.

        A kind that is not known here is `UNKNOWN`, which marks bars.

        Raises:
            UnreadableReportError: the bytes are no gap.
        """
        fields = read_report(cls, value)
        try:
            fields["kind"] = GapKind(fields["kind"])
            fields["symbols"] = tuple(fields["symbols"])
            fields["healed"] = tuple(fields.get("healed", ()))
            offsets = fields.get("healed_offsets", {})
            fields["healed_offsets"] = {int(p): offset for p, offset in offsets.items()}
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnreadableReportError from error


def ends_of(gaps: Sequence[Gap]) -> list[tuple[Gap, int | None]]:
    """Return the gaps of one producer, each with its end, the newest first.

    One that was left open when the producer stopped ends with the gap of its next life. Nothing
    else ends it: what is dropped, skipped or not had of one symbol says nothing of the feed.
    """
    detected_us = attrgetter("detected_us")
    lives = sorted((gap for gap in gaps if gap.kind is GapKind.STOPPED), key=detected_us)
    newest_first = (EVER if life.ended_us is None else life.ended_us for life in reversed(lives))
    ends = list(accumulate(newest_first, min, initial=EVER))[::-1]

    def end_of(gap: Gap) -> int | None:
        if gap.ended_us is not None:
            return gap.ended_us
        end_us = ends[bisect_right(lives, gap.detected_us, key=detected_us)]
        return None if end_us == EVER else end_us

    return [(gap, end_of(gap)) for gap in sorted(gaps, key=attrgetter("started_us"), reverse=True)]


def overlapping(
    ends: Iterable[tuple[Gap, int | None]], start_us: int, end_us: int
) -> Iterator[Gap]:
    """Yield the gaps that overlap [start_us, end_us), each with its end as `ends_of` tells it."""
    for gap, ended_us in ends:
        is_over = ended_us is not None and ended_us <= start_us
        if gap.started_us < end_us and not is_over:
            yield replace(gap, ended_us=ended_us)


def ends_of_all(gaps: Iterable[Gap]) -> Iterator[tuple[Gap, int | None]]:
    """Yield the gaps of several producers, each with its end as `ends_of` tells it."""
    by_producer: dict[str, list[Gap]] = defaultdict(list)
    for gap in gaps:
        by_producer[gap.producer_id].append(gap)
    for some in by_producer.values():
        yield from ends_of(some)


def joined(spans: Iterable[tuple[int, int | None]]) -> list[tuple[int, int]]:
    """Return spans of time in their order, those that touch or overlap as one.

    Args:
        spans: start and end of each; None is `EVER`.
    """
    found: list[tuple[int, int]] = []
    for start, end in sorted((start, EVER if end is None else end) for start, end in spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found
