"""Rules of what is told: one line of text each, such as `AAPL close > 280`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tapeline.client.bars import StreamedBar
from tapeline.model.errors import UsageError
from tapeline.model.read_interval import ReadInterval
from tapeline.model.symbols import parse_symbols

FORMS: Final = (
    "`AAPL close > 280`, `AAPL,MSFT 1h high >= 300`, `AAPL final`, `AAPL 1h final volume > 1e6`, "
    "`AAPL gap`, `gap`, `AAPL silent` or `feed`"
)
"""One rule of each kind."""
FIELDS: Final = ("open", "high", "low", "close", "vwap", "volume")
SIGNS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_SIGN: Final = re.compile(r"([<>=!]+)")
_COMMA: Final = re.compile(r"\s*,\s*")
_INTERVAL: Final = re.compile(r"\d+[a-z]")
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)
_DEFAULT_INTERVAL: Final = "5m"
_MOST_SYMBOLS: Final = 500


class Kind(str, Enum):
    """What a rule waits for."""

    FINAL = "final"
    """A final bar, and each revision of it."""
    PRICE = "price"
    """A bar as it stands begins to fulfil a comparison."""
    GAP = "gap"
    """A time without the feed."""
    SILENT = "silent"
    """A symbol without trades while others have some."""
    FEED = "feed"
    """The feed goes down, or comes back."""

    @property
    def is_of_bars(self) -> bool:
        """Whether bars are looked at."""
        return self in {Kind.FINAL, Kind.PRICE}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field of a bar, one of `SIGNS`, and a number."""

    field: str
    sign: str
    number: float

    def __str__(self) -> str:
        """Return it as it is written in a rule; equal ones are written alike."""
        return f"{self.field} {self.sign} {self.number!r}".removesuffix(".0")

    def holds(self, bar: StreamedBar) -> bool | None:
        """Return whether a bar fulfils it; None when the bar has no such value."""
        value: float | None = getattr(bar, self.field)
        return None if value is None else SIGNS[self.sign](value, self.number)


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to be told, of which symbols; none are all.

    `name` is what events call it. `interval` is that of the bars, None where none are looked at.
    """

    name: str
    kind: Kind
    symbols: tuple[str, ...] = ()
    interval: str | None = None
    comparison: Comparison | None = None

    @property
    def key(self) -> str:
        """What the rule waits for, written in one way only; of bars, without the symbols."""
        words = [self.interval] if self.interval else list(filter(None, [",".join(self.symbols)]))
        if self.kind is not Kind.PRICE:
            words.append(self.kind.value)
        if self.comparison:
            words.append(str(self.comparison))
        return " ".join(words)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The key with each symbol whose bars are looked at; with an empty one for the others."""
        symbols = self.symbols if self.kind.is_of_bars else ("",)
        return [(self.key, symbol) for symbol in symbols]


def parse_rule(text: str, name: str | None = None) -> Rule:
    """Read a rule.

    Args:
        text: in one of `FORMS`.
        name: what its events call it; the text when not given.

    Raises:
        UsageError: it is not a valid rule; the message says what to write instead.
    """
    name = name or " ".join(text.split())
    words = _SIGN.sub(r" \1 ", _COMMA.sub(",", text)).split()
    if words in (["feed"], ["gap"]):
        return Rule(name, Kind(words[0]))
    try:
        return _rule(name, words)
    except ValueError as error:
        reason = str(error)
    except UsageError as error:
        reason = str(error).rstrip(".")
    message = f"Rule {name!r} is not valid: {reason}. Write one such as {FORMS}."
    raise UsageError(message)


def _rule(name: str, words: list[str]) -> Rule:
    if len(words) < 2:  # noqa: PLR2004 - symbols, and what to wait for
        message = "it names no symbol or nothing to wait for"
        raise ValueError(message)
    symbols = tuple(sorted(parse_symbols(words[0])))
    rest = words[1:]
    interval = None
    if _INTERVAL.fullmatch(rest[0]):
        interval = ReadInterval.parse(rest.pop(0)).name
    if rest in (["gap"], ["silent"]):
        if interval:
            message = f"{rest[0]!r} is of no interval: leave out {interval!r}"
            raise ValueError(message)
        return Rule(name, Kind(rest[0]), symbols)
    is_final = rest[:1] == ["final"]
    kind = Kind.FINAL if is_final else Kind.PRICE
    compared = rest[1:] if is_final else rest
    comparison = None if is_final and not compared else _comparison(compared)
    return Rule(name, kind, symbols, interval or _DEFAULT_INTERVAL, comparison)


def _comparison(words: list[str]) -> Comparison:
    said = " ".join(words)
    if len(words) != 3:  # noqa: PLR2004 - field, sign, number
        message = f"{said!r} is no comparison of a field, a sign and a number"
        raise ValueError(message)
    field, sign, number = words
    if field not in FIELDS:
        message = f"{field!r} is no field of a bar: give {', '.join(FIELDS)}"
        raise ValueError(message)
    if sign not in SIGNS:
        message = f"{sign!r} is no sign: give {', '.join(SIGNS)}"
        raise ValueError(message)
    if not _NUMBER.fullmatch(number) or not math.isfinite(float(number)):
        message = f"{number!r} is no number such as 280 or 280.5"
        raise ValueError(message)
    # -0.0 is written as 0 is.
    return Comparison(field, sign, float(number) + 0.0)


def check_together(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return rules that may be watched at once.

    Raises:
        UsageError: there is none, two tell the same or have one name, or they have too many
            symbols.
    """
    found = tuple(rules)
    if not found:
        message = f"There is no rule: give one with --when or --rules, such as {FORMS}."
        raise UsageError(message)
    named: dict[str, Rule] = {}
    known: dict[tuple[str, str], Rule] = {}
    for rule in found:
        if rule.name in named:
            message = f"Two rules are called {rule.name!r}: rename or leave out one of them."
            raise UsageError(message)
        named[rule.name] = rule
        for key in rule.keys:
            if key in known:
                message = (
                    f"Rules {known[key].name!r} and {rule.name!r} both tell "
                    f"{' '.join(filter(None, reversed(key)))!r}: leave out one of them."
                )
                raise UsageError(message)
            known[key] = rule
    for interval, symbols in symbols_by_interval(found).items():
        if len(symbols) > _MOST_SYMBOLS:
            message = (
                f"The rules name {len(symbols)} symbols of {interval} bars, and {_MOST_SYMBOLS} "
                "are the most: run a second `tapeline watch` with --name for some of them."
            )
            raise UsageError(message)
    return found


def symbols_by_interval(rules: Iterable[Rule]) -> dict[str, list[str]]:
    """Return the symbols whose bars are looked at, by the length of the bars."""
    found: dict[str, set[str]] = {}
    for rule in rules:
        if rule.interval is not None:
            found.setdefault(rule.interval, set()).update(rule.symbols)
    return {interval: sorted(symbols) for interval, symbols in found.items()}
