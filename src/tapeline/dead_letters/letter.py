"""A dead letter: a frame of the feed or a message of the topic, and what was refused of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import orjson

from tapeline.feeds.known import feed_of

Refusal = tuple[int | None, str]
"""The index of a trade in its frame, None for the whole frame or message; and the reason."""


class Origin(str, Enum):
    """Who refused it."""

    FEED = "feed"
    """The producer, a frame: it lies in the topic of dead letters."""
    TOPIC = "topic"
    """The stream, a message: it lies in the table trades_quarantine."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One frame or message as it came.

    `received_us` is when the producer read the frame, or the broker got the message, µs since
    the epoch; `place` says where it lies; `source` is that of the frame's trades.
    """

    origin: Origin
    place: str
    received_us: int
    data: bytes
    refusals: tuple[Refusal, ...]
    key: str = ""
    source: str = ""

    def entries(self) -> Iterator[tuple[str, str | None]]:
        """Yield reason and symbol (None where it is not known) of each refusal."""
        if self.origin is Origin.TOPIC:
            yield from ((reason, self.key or None) for _, reason in self.refusals)
            return
        symbols = self._symbols() if any(i is not None for i, _ in self.refusals) else ()
        for index, reason in self.refusals:
            is_known = index is not None and index < len(symbols)
            yield reason, symbols[index] if index is not None and is_known else None

    def _symbols(self) -> Sequence[str | None]:
        """Return the symbol of each trade of a frame, None where it has none."""
        try:
            message = feed_of(self.source).read(orjson.loads(self.data))
        except orjson.JSONDecodeError:
            return ()
        if not isinstance(message, Sequence) or isinstance(message, str):
            return ()
        symbols = (trade.symbol for trade in message)
        return [s if isinstance(s, str) and s else None for s in symbols]


def read_refusals(header: bytes | None, reason: str) -> tuple[Refusal, ...]:
    """Return what the header `rejects` says, or the reason alone where it says nothing."""
    try:
        found = orjson.loads(header or b"")
        refusals = tuple(
            (index, str(why)) for index, why in found if index is None or type(index) is int
        )
    except (TypeError, ValueError):
        refusals = ()
    return refusals or ((None, reason),)
