"""Say in a sentence which variable is wrong: its value, or its name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_ALIKE: Final = 0.8
_OURS: Final = frozenset({"ENV_FILE", "HELD", "SIMULATOR_TOKEN", "SUPERVISED", "TAPES"})
"""What has our prefix and is no setting."""
_HIDDEN: Final = frozenset(
    {
        "url",
        "token_url",
        "password",
        "finnhub_api_key",
        "FINNHUB_API_KEY",
        "webhook",
        "secret",
        "api_key",
    }
)
"""Settings whose wrong value may hold a secret."""


def explain(error: ValidationError, prefix: str, delimiter: str) -> str:
    """Return which variable is wrong, what it is and what it should be."""
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"]]
    name = parts[0] if parts[0].isupper() else prefix + delimiter.join(parts).upper()
    if first["type"] == "extra_forbidden":
        return f"There is no setting {name}: `tapeline settings` lists those that there are."
    text = first["msg"].removeprefix("Value error, ").rstrip(".")
    value = first["input"]
    if first["type"] == "value_error" and isinstance(value, Mapping):
        return f"{text}."  # settings that contradict each other, which it names
    is_shown = _HIDDEN.isdisjoint(parts) and isinstance(value, str) and repr(value) not in text
    shown = f" is {value!r}" if is_shown else ""
    return f"{name}{shown}: {text[:1].lower() if is_shown else text[:1]}{text[1:]}."


def variables_of(fields: Mapping[str, FieldInfo], prefix: str, delimiter: str) -> Iterator[str]:
    """Yield the variable of each setting of a tree."""
    for name, field in fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            below = f"{prefix}{name.upper()}{delimiter}"
            yield from variables_of(kind.model_fields, below, delimiter)
        else:
            alias = field.validation_alias
            yield alias if isinstance(alias, str) else f"{prefix}{name.upper()}"


def misspelt(
    variables: Mapping[str, str | None], known: Collection[str], prefix: str
) -> str | None:
    """Return a sentence on the first variable that is no setting but much like one.

    Others that begin alike may be somebody else's: for a service `tapeline-cassandra` Kubernetes
    sets `TAPELINE_CASSANDRA_PORT` to tcp://10.0.0.1:9042, and more.
    """
    ends = {_plain(name, prefix): name for name in known}
    for name, value in sorted(variables.items()):
        upper = name.upper()
        is_right = upper in known or upper.removeprefix(prefix) in _OURS
        if is_right or not upper.startswith(prefix) or _is_of_a_service(upper, value or ""):
            continue
        alike = get_close_matches(_plain(upper, prefix), ends, n=1, cutoff=_ALIKE)
        if alike:
            return f"There is no setting {upper}: do you mean {ends[alike[0]]}?"
    return None


def _is_of_a_service(name: str, value: str) -> bool:
    return "_SERVICE_" in name or "_PORT_" in name or value.startswith(("tcp://", "udp://"))


def _plain(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).replace("_", "")
