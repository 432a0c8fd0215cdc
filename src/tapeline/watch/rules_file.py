"""A file of rules in TOML: a table `[[rule]]` each, with `when` and perhaps a `name`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

from tapeline.model.errors import UsageError
from tapeline.watch.rules import Rule, parse_rule

_EXAMPLE: Final = '[[rule]]\nname = "apple-high"\nwhen = "AAPL close > 280"'
_KNOWN: Final = {"name", "when"}
_LONGEST_NAME: Final = 100


def read_rules(path: Path) -> list[Rule]:
    """Return the rules of a file, in its order.

    Raises:
        UsageError: it cannot be read or holds something else; the message names the rule and says
            what to write.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}): name a file of rules."
        raise UsageError(message) from error
    except ValueError as error:  # not TOML, or not UTF-8
        message = f"{path} is not TOML in UTF-8 ({error}). A rule looks like this:\n{_EXAMPLE}"
        raise UsageError(message) from error
    if extra := sorted(content.keys() - {"rule"}):
        message = (
            f"{path} holds {extra[0]!r}, and only tables [[rule]] stand in it, like:\n{_EXAMPLE}"
        )
        raise UsageError(message)
    tables = content.get("rule", [])
    if not isinstance(tables, list) or not tables:
        message = f"{path} holds no [[rule]]. One looks like this:\n{_EXAMPLE}"
        raise UsageError(message)
    return [_rule(f"Rule {number} of {path}", table) for number, table in enumerate(tables, 1)]


def _rule(where: str, table: Any) -> Rule:
    if not isinstance(table, dict):
        message = f"{where} is no table. One looks like this:\n{_EXAMPLE}"
        raise UsageError(message)
    name, when = table.get("name"), table.get("when")
    if name is not None:
        is_name = isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME
        if not is_name:
            message = f"{where} has a name that is none: give 1 to {_LONGEST_NAME} characters."
            raise UsageError(message)
        where = f"{where}, {name!r},"
    if extra := sorted(table.keys() - _KNOWN):
        message = f"{where} holds {extra[0]!r}: give `when`, and `name` if you like."
        raise UsageError(message)
    if not isinstance(when, str):
        message = f'{where} has no text `when`: write one such as when = "AAPL close > 280".'
        raise UsageError(message)
    return parse_rule(when, name)
