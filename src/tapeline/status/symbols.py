"""Which symbols producers receive, and changes to that: for the command and for the API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from tapeline.feeds.feed import our_symbols
from tapeline.feeds.known import feed_of, source_for
from tapeline.kafka.feed_view import FeedSnapshot
from tapeline.model.errors import UsageError
from tapeline.model.feed_status import FeedStatus
from tapeline.model.symbol_change import SymbolChange
from tapeline.producer.previous_run import by_another_feed


class SymbolState(str, Enum):
    """What a producer has of a symbol that it asks for."""

    RECEIVED = "received"
    WAITING = "waiting"
    """The feed has not answered yet, or does not send it: there is no connection, no such symbol,
    or no slot."""


@dataclass(frozen=True, slots=True)
class SymbolRow:
    """A symbol that a running producer asks for."""

    symbol: str
    source: str
    producer: str
    state: SymbolState


def running(feed: FeedSnapshot) -> Iterator[FeedStatus]:
    """Return what the producers of live feeds report that run now."""
    return (view.status for view in feed.producers if view.is_running)


def symbol_rows(feed: FeedSnapshot) -> list[SymbolRow]:
    """Return what is asked for now, in alphabetical order."""
    rows = []
    for status in running(feed):
        waiting, source = set(status.waiting), status.source_name
        has_feed = status.connected and status.started_us is not None
        for symbol in status.subscribed:
            is_received = has_feed and symbol not in waiting
            state = SymbolState.RECEIVED if is_received else SymbolState.WAITING
            rows.append(SymbolRow(symbol, source, status.producer_id, state))
    return sorted(rows, key=lambda row: (row.symbol, row.producer))


def changes_to(
    feed: FeedSnapshot,
    topic: str,
    names: Iterable[str],
    source: str | None,
    now_us: int,
    *,
    is_wanted: bool,
) -> list[SymbolChange]:
    """Return the changes that add or remove symbols.

    Args:
        feed: what runs now.
        topic: of the trades.
        names: of the symbols, with or without a venue where the source is given.
        source: of all; None for what runs and has such a symbol.
        now_us: µs since the epoch.
        is_wanted: whether they are added.

    Raises:
        UsageError: a symbol is not one of the source, or comes by another feed already, or the
            feed takes no more.
    """
    rows = symbol_rows(feed)
    sources = {status.source_name for status in running(feed)}
    found: list[SymbolChange] = []
    for name in names:
        has_it = [row.source for row in rows if row.symbol == name and not is_wanted]
        wanted = source or (has_it[0] if has_it else source_for(name, sources))
        for symbol in our_symbols(feed_of(wanted), [name]):
            if is_wanted:
                _require_one_feed(symbol, wanted, feed)
            found.append(SymbolChange(topic, wanted, symbol, is_wanted, now_us))
    for status in running(feed) if is_wanted else ():
        _require_room(status, found)
    return found


def _require_one_feed(symbol: str, source: str, feed: FeedSnapshot) -> None:
    for status in by_another_feed(feed.producers, source, [symbol]).values():
        message = (
            f"{symbol} comes by {status.source_name} already, from producer "
            f"{status.producer_id}, and its trades would count twice: remove it there first."
        )
        raise UsageError(message)


def _require_room(status: FeedStatus, changes: Iterable[SymbolChange]) -> None:
    source = status.source_name
    most = feed_of(source).most_symbols
    wanted = {*status.subscribed, *(c.symbol for c in changes if c.source == source)}
    if most is not None and len(wanted) > most:
        message = (
            f"A connection to {source} takes {most} symbols, and producer {status.producer_id} "
            f"has {len(status.subscribed)}: remove some first."
        )
        raise UsageError(message)
