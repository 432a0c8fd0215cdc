"""A dead letter: a frame of the feed or a message of the topic, and what was refused of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

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
        items = _items(self.data) if any(i is not None for i, _ in self.refusals) else ()
        for index, reason in self.refusals:
            yield reason, None if index is None else _symbol_of(items, index)


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


def _items(frame: bytes) -> Sequence[Any]:
    try:
        items = orjson.loads(frame)["data"]
    except (TypeError, ValueError, KeyError):
        return ()
    return items if isinstance(items, list) else ()


def _symbol_of(items: Sequence[Any], index: int) -> str | None:
    item = items[index] if index < len(items) else None
    symbol = item.get("s") if isinstance(item, dict) else None
    return symbol if isinstance(symbol, str) and symbol else None
