"""What a simulated feed is made of: frames of trades, each due at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class FeedFrame:
    """Trades that arrive together, in the feed's own form, due at `due_ms` on its clock."""

    due_ms: int
    trades: list[dict[str, Any]]


class Feed(Protocol):
    """A source of frames: a tape or a random market."""

    symbols: tuple[str, ...]
    start_ms: int
    is_live: bool
    """Whether the feed runs on the wall clock, heard or not."""

    def frames(self, now_ms: int) -> Iterator[FeedFrame]:
        """Yield frames for a connection that is made at `now_ms` on the feed's clock."""
        ...
