"""What a feed is to the producer: an address, what to say there, and how to read what comes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple, Protocol

from tapeline.model.errors import UsageError
from tapeline.model.reasons import Reason
from tapeline.model.times import to_millis

_DECIMAL: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


class OfferedTrade(NamedTuple):
    """A trade as a message has it; nothing of it is checked, not even its types.

    `event_time_ms` counts from the Unix epoch. `trade_id` is the exchange's own number, where it
    gives one: of a symbol's trades a later one has a higher number.
    """

    symbol: Any
    price: Any
    volume: Any
    event_time_ms: Any
    conditions: Any = None
    trade_id: Any = None


@dataclass(frozen=True, slots=True)
class Ping:
    """The feed's sign of life, or an answer that says no more than that."""


@dataclass(frozen=True, slots=True)
class FeedMessage:
    """An error that the feed reports, in its words.

    `refused` are symbols that it says are not to be had, `is_full` that it has no room for one
    more, which it does not name.
    """

    text: str
    refused: tuple[str, ...] = ()
    is_full: bool = False


Message = Sequence[OfferedTrade] | Ping | FeedMessage | Reason
"""What a message holds; a reason where it is none that the feed is known to send."""


class IdHole(NamedTuple):
    """The trades of a symbol whose numbers lie between two others, both without.

    The times are of these two, ms since the epoch.
    """

    symbol: str
    after_id: int
    before_id: int
    after_ms: int
    before_ms: int

    @property
    def started_us(self) -> int:
        """When the gap begins that it is, µs since the epoch."""
        return min(self.after_ms, self.before_ms) * 1000

    @property
    def ended_us(self) -> int:
        """When that gap ends: what is missing may be of the same millisecond as the later one."""
        return (max(self.after_ms, self.before_ms) + 1) * 1000


class History(Protocol):
    """What was traded before, by HTTP, a page at a time.

    `requests_per_s` is what it takes. Pages go `forwards` from the hole's beginning, or backwards
    from its end; a trade that lies outside may be among them.
    """

    @property
    def requests_per_s(self) -> float: ...  # noqa: D102
    @property
    def forwards(self) -> bool: ...  # noqa: D102

    def page(self, hole: IdHole) -> str:
        """Return path and query of the first page of what is left of a hole."""

    def read(self, answer: Any, symbol: str) -> Sequence[OfferedTrade] | None:
        """Read a page, whose fractions are `Decimal`; None if it is none, or an error."""


class Feed(Protocol):
    """The protocol of one feed.

    `name` is what `--source` is called and what travels with each trade, `venue` what stands before
    the colon of its symbols, empty where they have their own. `default_symbols` are much traded
    ones, in its names. `has_ids` says that each trade has
    the exchange's number, and that the numbers of a symbol leave none out. A connection may
    ask for `most_symbols` in all and say `messages_per_s`; None is without a limit. `keep_alive`
    is what to say now and then where silence would otherwise prove nothing. `history` is None
    where there is none to be had by number.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def venue(self) -> str: ...  # noqa: D102
    @property
    def default_symbols(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def has_ids(self) -> bool: ...  # noqa: D102
    @property
    def most_symbols(self) -> int | None: ...  # noqa: D102
    @property
    def messages_per_s(self) -> float | None: ...  # noqa: D102
    @property
    def keep_alive(self) -> str | None: ...  # noqa: D102
    @property
    def history(self) -> History | None: ...  # noqa: D102

    def symbol_of(self, name: str) -> str:
        """Return our name of what the exchange calls so."""

    def address(self, url: str) -> str:
        """Return where to connect; it may hold a secret, the url does not."""

    def subscribe(self, symbols: Sequence[str]) -> Iterable[str]:
        """Yield what to say to receive the trades of some symbols."""

    def unsubscribe(self, symbols: Sequence[str]) -> Iterable[str]:
        """Yield what to say to receive them no more."""

    def read(self, message: Any) -> Message:
        """Read a message, which is any JSON."""


def our_symbols(feed: Feed, names: Iterable[str]) -> tuple[str, ...]:
    """Return our names of what is asked of a feed, with or without its venue in front.

    Raises:
        UsageError: a name has another venue in front, or they are too many.
    """
    if not feed.venue:
        return tuple(names)
    found = []
    for name in names:
        venue, colon, rest = name.partition(":")
        if colon and venue.upper() != feed.venue:
            message = f"{name} is not a symbol of {feed.venue}: leave out what is before the colon."
            raise UsageError(message)
        found.append(feed.symbol_of(rest if colon else name))
    if feed.most_symbols is not None and len(found) > feed.most_symbols:
        message = f"A connection to {feed.venue} takes {feed.most_symbols} symbols: ask for fewer."
        raise UsageError(message)
    return tuple(dict.fromkeys(found))


def with_venue(venue: str, name: Any) -> Any:
    """Return our name of what an exchange calls so; what is no name is returned as it is."""
    return f"{venue}:{name}" if isinstance(name, str) and name else name


def without_venue(symbol: str) -> str:
    """Return what an exchange calls a symbol of ours."""
    return symbol.partition(":")[2]


def items_of(answer: Any) -> list[dict[str, Any]] | None:
    """Return a page of history that is a list of objects; None if it is none."""
    is_page = isinstance(answer, list) and all(isinstance(item, dict) for item in answer)
    return answer if is_page else None


def number(text: Any) -> Any:
    """Return the number that a text such as `0.7902` holds; what holds none is returned as it is.

    Python's own `float` also takes `nan`, `1_000` and blanks.
    """
    if type(text) is Decimal:
        return float(text)
    return float(text) if type(text) is str and _DECIMAL.fullmatch(text) else text


def millis(text: Any) -> Any:
    """Return an ISO 8601 time with its zone as whole ms since the epoch, cut, not rounded.

    What is no such time is returned as it is.
    """
    if type(text) is not str:
        return text
    try:
        time = datetime.fromisoformat(text)
        return text if time.tzinfo is None else to_millis(time)
    except (ValueError, OverflowError):
        return text


def chunks(symbols: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    """Yield symbols, at most so many at once."""
    return (symbols[start : start + size] for start in range(0, len(symbols), size))
