"""What a simulated feed is made of: frames of trades, each due at a time, and outages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class FeedFrame:
    """Trades that arrive together, in the feed's own form, due at `due_ms` on its clock.

    Copies of a frame share its `number`. `bad` holds the indexes of trades that no client
    should accept. A frame with `text` is sent as that text instead.
    """

    due_ms: int
    trades: list[dict[str, Any]] = field(default_factory=list)
    number: int | None = None
    bad: frozenset[int] = frozenset()
    text: str | None = None

    def of_symbols(self, symbols: frozenset[str]) -> FeedFrame:
        """Return the part of the frame that a client with these subscriptions gets."""
        kept = [i for i, t in enumerate(self.trades) if t["s"] in symbols or i in self.bad]
        return replace(
            self,
            trades=[self.trades[i] for i in kept],
            bad=frozenset(new for new, old in enumerate(kept) if old in self.bad),
        )


@dataclass(frozen=True, slots=True)
class Outage:
    """From `due_ms` to `until_ms` the feed sends nothing, not even pings.

    When `is_drop`, it closes the connection as well, and refuses new ones until the end.
    """

    due_ms: int
    until_ms: int
    is_drop: bool


FeedEvent = FeedFrame | Outage


class Feed(Protocol):
    """A source of frames: a tape or a random market, with faults or without."""

    symbols: tuple[str, ...]
    start_ms: int
    is_live: bool
    """Whether the feed runs on the wall clock, heard or not."""

    def frames(self, now_ms: int) -> Iterator[FeedEvent]:
        """Yield what happens on a connection that is made at `now_ms` on the feed's clock."""
        ...
