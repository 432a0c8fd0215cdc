"""Lists of symbols as users write them, with commas between them: read here and nowhere else."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tapeline.model.errors import UsageError
from tapeline.model.reasons import MAX_SYMBOL_CHARACTERS

_NAMED: Final = 10
_SHOWN: Final = 40


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a text, each once and without the blanks around it; perhaps none."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def parse_symbols(text: str, *, any_name: bool = False) -> tuple[str, ...]:
    """Return the names in an option such as `AAPL, MSFT`, each once.

    Args:
        text: as it was written.
        any_name: they are those of a tape, of which each trade is judged by itself.

    Raises:
        UsageError: there is none, or one that no symbol has.
    """
    names = split_names(text)
    if not names:
        message = f"{text!r} names no symbol: give names with commas between them, as AAPL,MSFT."
        raise UsageError(message)
    for name in () if any_name else names:
        if what_is_wrong_with(name) is not None or ";" in name:
            shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
            message = f"{shown!r} is not a valid symbol: give names with commas, as AAPL,MSFT."
            raise UsageError(message)
    return names


def selected_symbols(text: str | None) -> frozenset[str] | None:
    """Return the names in an option that selects symbols, None when it is not given.

    Raises:
        UsageError: it is given and names none.
    """
    return None if text is None else frozenset(parse_symbols(text))


def some_of(symbols: Collection[str]) -> str:
    """Return the first ten names and how many more there are."""
    some = ", ".join(sorted(symbols)[:_NAMED]) or "none yet"
    more = len(symbols) - _NAMED
    return f"{some} and {more} more" if more > 0 else some


def what_is_wrong_with(symbol: str) -> str | None:
    """Return why a name is not a valid symbol, as the rest of a sentence; None if it is one.

    Lists of symbols have commas between them, in every command, request and file.
    """
    if not symbol:
        return "is empty and is not a valid symbol"
    if "," in symbol:
        return "is not a valid symbol: a comma separates symbols in lists, so none may hold one"
    if len(symbol) > MAX_SYMBOL_CHARACTERS:
        return f"is not a valid symbol: it has more than {MAX_SYMBOL_CHARACTERS} characters"
    if not symbol.isprintable():
        return "is not a valid symbol: it holds a control character"
    return None
