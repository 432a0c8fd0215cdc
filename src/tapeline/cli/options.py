"""What several commands take and print alike: their options, JSON, a progress bar."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tapeline.local.discovery import Endpoints, find_endpoints
from tapeline.model.threshold import parse_length
from tapeline.model.times import TIME_FORMATS
from tapeline.program.options import input_file, output_file
from tapeline.program.settings import Settings
from tapeline.program.split_file import read_splits


class TableOrJson(str, Enum):
    """How a command writes what it found: for people or for programs."""

    TABLE = "table"
    JSON = "json"


def check_interval(text: str) -> str:
    """Return a length of bars as it was given.

    Raises:
        typer.BadParameter: it is not a valid one.
    """
    try:
        parse_length(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


def _split_file(path: Path | None) -> Path | None:
    """Return the path of a file of splits, all of which is valid."""
    file = input_file(path)
    if file is not None:
        read_splits(file, datetime.now(timezone.utc))
    return file


def from_option(meaning: str) -> Any:
    """Return the option of the first time."""
    return typer.Option("--from", formats=TIME_FORMATS, help=meaning)


def to_option(meaning: str) -> Any:
    """Return the option of the time before which all lies."""
    return typer.Option("--to", formats=TIME_FORMATS, help=meaning)


def format_option(meaning: str) -> Any:
    """Return the option of the form of what is written."""
    return typer.Option("--format", help=meaning)


Keyspace = Annotated[str | None, typer.Option(help="market_data by default.")]
Topic = Annotated[str | None, typer.Option(help="trades_raw by default.")]
Interval = Annotated[
    str,
    typer.Option(
        callback=check_interval,
        help="Length of a bar: 5m, 15m, 1h, 1d …; or 1000tick, 50000volume, 1000000dollar.",
    ),
]
SplitFile = Annotated[
    Path | None,
    typer.Option(
        "--splits", callback=_split_file, help="CSV of splits that bars are adjusted for."
    ),
]
Detail = Annotated[bool, typer.Option("--detail", help="All columns of a bar.")]
OutputFile = Annotated[
    Path | None, typer.Option("-o", "--output", callback=output_file, help="File to write.")
]


def write_json(content: object, file: BinaryIO | None = None) -> None:
    """Write JSON for people too, times with a Z; to the standard output unless told otherwise."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
    (file or sys.stdout.buffer).write(orjson.dumps(content, option=option))


def using(settings: Settings) -> Endpoints:
    """Return the services of some settings, and say on standard error which they are."""
    endpoints = find_endpoints(settings)
    typer.echo(f"Using {endpoints}", err=True)
    return endpoints


def progress_on(console: Console) -> Progress:
    """Return a progress bar that counts, and shows the time that has passed."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
