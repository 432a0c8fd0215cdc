"""`tapeline settings` and `tapeline metrics`: what can be set and what is measured.

Both are made from the code, and `docs/settings.md`, `docs/metrics.md` and `.env.example` hold
what they print.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Final

import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markdown import Markdown

from tapeline.program.metrics import (
    API_METRICS,
    PROCESS_METRICS,
    PRODUCER_METRICS,
    STREAM_METRICS,
    Metric,
)
from tapeline.program.settings import ENV_DELIMITER, ENV_PREFIX, Settings

_TABLE_WIDTH: Final = 200
"""In characters, at least: a narrow terminal wraps lines, and no name is cut."""

_UNITS: Final = {"_s": "seconds", "_bytes": "bytes", "_hours": "hours"}

_SETTINGS_INTRODUCTION: Final = """\
# Settings

Every setting is an environment variable. It may also be a line of a file that the variable
`TAPELINE_ENV_FILE` names; the environment goes before the file. An empty value counts as not
set. To begin such a file: `cp .env.example .env && export TAPELINE_ENV_FILE=.env`.

This page is what `tapeline settings --format markdown` prints.
"""
_METRICS_INTRODUCTION: Final = """\
# Metrics

[operations.md](operations.md) says where they are served and which to watch.

This page is what `tapeline metrics --format markdown` prints.
"""
_ENV_INTRODUCTION: Final = """\
# Every setting, with its default. Copy this file, take the # away where you set something, and
# name the copy: export TAPELINE_ENV_FILE=.env
# This file is what `tapeline settings --format env` prints.
"""


class SettingsFormat(str, Enum):
    """How settings are printed."""

    TABLE = "table"
    MARKDOWN = "markdown"
    ENV = "env"


class MetricsFormat(str, Enum):
    """How metrics are printed."""

    TABLE = "table"
    MARKDOWN = "markdown"


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting as a user writes it; an empty default means that it is not set."""

    name: str
    default: str
    unit: str
    meaning: str


def settings(
    output_format: Annotated[
        SettingsFormat, typer.Option("--format", help="How to print them.")
    ] = SettingsFormat.TABLE,
) -> None:
    """Print every setting: its environment variable, default, unit and meaning.

    Example: tapeline settings --format env > .env
    """
    if output_format is SettingsFormat.ENV:
        typer.echo(env_example(), nl=False)
    else:
        _print(settings_page(), rendered=output_format is SettingsFormat.TABLE)


def metrics(
    output_format: Annotated[
        MetricsFormat, typer.Option("--format", help="How to print them.")
    ] = MetricsFormat.TABLE,
) -> None:
    """Print every metric that is exported: its kind, unit, labels and meaning.

    Example: tapeline metrics
    """
    _print(metrics_page(), rendered=output_format is MetricsFormat.TABLE)


def settings_page() -> str:
    """Return the settings as Markdown."""
    parts = [_SETTINGS_INTRODUCTION]
    for title, variables in _groups():
        rows = [(f"`{v.name}`", _code(v.default), v.unit, v.meaning) for v in variables]
        parts.append(f"## {title}\n\n{_table(('variable', 'default', 'unit', 'meaning'), rows)}")
    return "\n".join(parts)


def env_example() -> str:
    """Return the settings as a file of variables, all commented out."""
    parts = [_ENV_INTRODUCTION]
    for _, variables in _groups():
        parts += [f"# {v.meaning}\n#{v.name}={v.default}\n" for v in variables]
    return "\n".join(parts)


def metrics_page() -> str:
    """Return the metrics as Markdown."""
    parts = [_METRICS_INTRODUCTION]
    lists = {
        "`tapeline produce`": PRODUCER_METRICS,
        "`tapeline stream`": STREAM_METRICS,
        "`tapeline api`": API_METRICS,
        "Each of them": PROCESS_METRICS,
    }
    for title, listed in lists.items():
        table = _table(("metric", "kind", "unit", "labels", "meaning"), map(_metric_row, listed))
        parts.append(f"## {title}\n\n{table}")
    return "\n".join(parts)


def _metric_row(metric: Metric[Any]) -> tuple[str, ...]:
    labels = (
        f"{label}: {', '.join(values)}" if values else label
        for label, values in metric.labels.items()
    )
    kind = metric.kind.__name__.lower()
    return f"`{metric.name}`", kind, metric.unit, "; ".join(labels), metric.meaning


def _groups() -> Iterator[tuple[str, list[Variable]]]:
    """Yield the settings of each part under its title."""
    parts = Settings.model_fields
    own = {name: field for name, field in parts.items() if _model_of(field) is None}
    yield "General", [_variable(ENV_PREFIX, name, field) for name, field in own.items()]
    for name, field in parts.items():
        model = _model_of(field)
        if model is not None:
            prefix = f"{ENV_PREFIX}{name.upper()}{ENV_DELIMITER}"
            title = " ".join((model.__doc__ or name).split()).rstrip(".")
            yield title, [_variable(prefix, n, f) for n, f in model.model_fields.items()]


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _variable(prefix: str, name: str, field: FieldInfo) -> Variable:
    alias = field.validation_alias
    variable = alias if isinstance(alias, str) else f"{prefix}{name.upper()}"
    unit = next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    return Variable(variable, _default(field), unit, " ".join((field.description or "").split()))


def _default(field: FieldInfo) -> str:
    # What a factory makes depends on the machine.
    value = None if field.default_factory else field.default
    if value is None or isinstance(value, SecretStr):
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _print(page: str, *, rendered: bool) -> None:
    if rendered:
        console = Console(markup=False)
        console.width = max(console.width, _TABLE_WIDTH)
        console.print(Markdown(page))
    else:
        typer.echo(page, nl=False)
