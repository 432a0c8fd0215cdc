"""Rules of which trades make a bar's fields: by a name that is shipped, or from a JSON file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tapeline.model.conditions import SHIPPED
from tapeline.model.errors import UsageError
from tapeline.model.rules import (
    FIELDS,
    OF_DAYS,
    ConditionRule,
    ReadingRules,
    Rules,
    SizeRule,
    compile_rules,
)
from tapeline.model.sessions import Session

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_MOST_CHARACTERS: Final = 64
_MOST_CONDITIONS: Final = 1_000

_Fields = list[Literal["open_close", "high_low", "volume"]]
_SessionName = Literal["pre", "regular", "post", "overnight", "closed", "continuous", "unknown"]
_SHAPE: Final = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Condition(BaseModel):
    model_config = _SHAPE

    withheld: _Fields = Field(default=[], alias="not")
    sessions: Annotated[list[_SessionName], Field(min_length=1)] | None = None


class _Size(BaseModel):
    model_config = _SHAPE

    size: float = Field(gt=0, allow_inf_nan=False)
    withheld: _Fields = Field(alias="not")


class _Day(BaseModel):
    model_config = _SHAPE

    prices: Literal["regular", "all"] = "regular"
    volume: Literal["regular", "all"] = "regular"


class _RuleFile(BaseModel):
    model_config = _SHAPE

    name: str
    unknown: _Fields = ["open_close", "high_low"]
    conditions: dict[str, _Condition] = Field(default={}, max_length=_MOST_CONDITIONS)
    sessions: dict[_SessionName, _Fields] = {}
    below_size: _Size | None = None
    carry_open: bool = False
    day: _Day = _Day()


def read_policy(text: str) -> Rules:
    """Return the rules of a name or a path, as `--policy` and the setting take them.

    Raises:
        UsageError: it is neither, or the file is not one of rules; the message says what is wrong.
    """
    if text in SHIPPED:
        return SHIPPED[text]
    path = _file(text)
    if path is None:
        message = f"{text!r} is no policy: give {', '.join(SHIPPED)} or a file of rules."
        raise UsageError(message)
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
        return _compiled(_RuleFile.model_validate(found), str(path.resolve()))
    except ValidationError as error:
        said = _sentence(error)
    except json.JSONDecodeError as error:
        said = f"it is not JSON: {error}"
    except UnicodeDecodeError:
        said = "it is not text in UTF-8"
    except RecursionError:
        said = "it is nested too deeply"
    except OSError as error:
        said = f"it cannot be read ({error.strerror})"
    except ValueError as error:
        said = str(error)
    message = f"The rules in {text} are not valid: {said}."
    raise UsageError(message)


def _file(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        return path if path.is_file() else None
    except (OSError, RuntimeError):  # too long a name, the home of nobody
        return None


PolicyOption = Annotated[
    Rules | None,
    typer.Option(
        parser=read_policy,
        metavar="NAME|FILE",
        help=f"Which trades set and add to what: {', '.join(SHIPPED)} or a file of rules.",
    ),
]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; of two equal names JSON itself would take the second unsaid."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            message = f"{name!r} stands twice"
            raise ValueError(message)
        found[name] = value
    return found


def _compiled(file: _RuleFile, option: str) -> Rules:
    _check_name(file.name)
    for condition in file.conditions:
        _check_condition(condition)
    small = file.below_size
    return compile_rules(
        file.name,
        option,
        {
            condition: ConditionRule(
                _bits(rule.withheld),
                None if rule.sessions is None else frozenset(map(Session, rule.sessions)),
            )
            for condition, rule in file.conditions.items()
        },
        _bits(file.unknown),
        {Session(session): _bits(fields) for session, fields in file.sessions.items()},
        None if small is None else SizeRule(small.size, _bits(small.withheld)),
        ReadingRules(
            file.carry_open,
            sum(bits for name, bits in OF_DAYS.items() if getattr(file.day, name) == "all"),
        ),
    )


def _check_name(name: str) -> None:
    if name.lower() in SHIPPED:
        message = f"the name {name!r} is taken by rules that are shipped: give another one"
        raise ValueError(message)

    if not _NAME.fullmatch(name):
        message = (
            f"{name!r} is no name: use letters, digits, '.', '_' and '-', at most 40, "
            "a letter or digit first"
        )
        raise ValueError(message)


def _check_condition(condition: str) -> None:
    is_plain = condition.isprintable() and condition == condition.strip()
    if not (is_plain and 1 <= len(condition) <= _MOST_CHARACTERS):
        message = (
            f"{condition!r} is no sale condition: give 1 to {_MOST_CHARACTERS} characters that can "
            "be printed, without blanks around them"
        )
        raise ValueError(message)


def _bits(fields: Iterable[str]) -> int:
    return sum(FIELDS[name] for name in set(fields))


def _sentence(error: ValidationError) -> str:
    """Say what is wrong with the first value that is."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "[key]"]
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        return f"{where!r} is no field of rules"
    if first["type"] == "missing":
        return f"{where!r} is missing"
    if first["type"] == "literal_error":
        return f"{where!r} is {first['input']!r}, and can be {first['ctx']['expected']}"
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{where!r}: {message}" if where else message
