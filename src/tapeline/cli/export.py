"""`tapeline export`: bars and trades into a folder of files, or bars into a Delta table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from tapeline.cli.options import (
    Detail,
    Keyspace,
    SplitFile,
    check_interval,
    format_option,
    progress_on,
    using,
)
from tapeline.export.content import ExportOptions, Kind
from tapeline.export.files import ExportFormat
from tapeline.export.job import ExportResult, run_export
from tapeline.local.keyspace import open_keyspace
from tapeline.local.lock import held
from tapeline.model.errors import UsageError
from tapeline.model.read_interval import ReadInterval
from tapeline.model.splits import NO_SPLITS
from tapeline.model.symbols import selected_symbols
from tapeline.model.texts import counted
from tapeline.model.threshold import Length, parse_length
from tapeline.model.times import time_span
from tapeline.program.options import output_folder
from tapeline.program.process import sigterm_interrupts
from tapeline.program.settings import load_settings
from tapeline.program.split_file import read_splits

_STOPPED_EXIT_CODE: Final = 130
_STOPPED_FILES: Final = "The same command goes on where it was."
_STOPPED_TABLE: Final = (
    "The table has all of this run as a new version, or nothing of it: the same command says which."
)
"""The run ends with one commit, and may be stopped right after it."""
_LOCK_NAME: Final = ".tapeline-export.lock"
_DAYS: Final = ["%Y-%m-%d"]
_NAMED: Final = 5
_KEPT_BARS: Final = (
    "those that were written before stay as they are, and an export to another folder has what is "
    "left"
)


def _export_folder(path: Path) -> Path | None:
    files = {f".{form.value}" for form in ExportFormat} - {".delta"}
    if path.suffix in files:
        message = f"{path} is a file's name: name a folder, and the form with --format."
        raise typer.BadParameter(message)
    return output_folder(path)


def _interval(text: str | None) -> str | None:
    return text if text is None else check_interval(text)


def export(
    kind: Annotated[Kind, typer.Argument(help="What to write.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            callback=_export_folder,
            help="Folder; one for each kind and interval.",
        ),
    ],
    file_format: Annotated[ExportFormat, format_option("How to write it.")] = ExportFormat.PARQUET,
    symbols: Annotated[
        str | None, typer.Option(help="Separated by commas; all by default.")
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=_DAYS, help="First day, UTC; the oldest stored."),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", formats=_DAYS, help="Days before this one, UTC; up to today's."),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(
            callback=_interval,
            help="Length of a bar: 5m (the default), 15m, 1h …; or 1000tick, 50000volume, …",
        ),
    ] = None,
    splits: SplitFile = None,
    keyspace: Keyspace = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Volumes as decimal(38, 10), not doubles.")
    ] = False,
    detail: Detail = False,
    provisional: Annotated[
        bool, typer.Option("--provisional", help="Bars that may still change too.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write finished days again too.")
    ] = False,
) -> None:
    """Write bars or trades into OUTPUT/date=DAY/SYMBOL.parquet, a file a symbol and UTC day.

    Only final bars, unless told otherwise; every trade that is stored. Run it again as often as
    you like: a day that is finished is left alone until one of its bars is revised, and a day
    that is not over is written again with what there is by then. Stopped or killed, the same
    command goes on where it was, and no file is ever half written.

    Example: tapeline export bars --interval 1h --from 2026-11-01 -o bars-1h

    Then: duckdb.sql("FROM 'bars-1h/*/*.parquet'") or polars.scan_parquet("bars-1h/*/*.parquet")

    With --format delta, OUTPUT is a Delta table of bars, and each run that finds something new or
    revised is one version of it: polars.scan_delta("bars-1h"). It needs tapeline[lake].
    """
    if kind is Kind.TRADES:
        _refuse_options_of_bars(
            interval=interval, splits=splits, detail=detail, provisional=provisional
        )
    known = NO_SPLITS if splits is None else read_splits(splits, datetime.now(timezone.utc))
    settings = load_settings().with_target(keyspace=keyspace)
    length = parse_length(interval or "5m")
    run = _delta_job(kind, length) if file_format is ExportFormat.DELTA else run_export
    time_span(start, end)
    options = ExportOptions(
        kind,
        file_format,
        length,
        selected_symbols(symbols),
        start.date() if start else None,
        end.date() if end else None,
        exact=exact,
        detail=detail,
        provisional=provisional,
        overwrite=overwrite,
        delay=timedelta(seconds=settings.stream.watermark_s),
        policy=settings.stream.policy,
        splits=known,
    )
    endpoints = using(settings)
    progress = progress_on(Console(stderr=True, markup=False))
    message = f"Another export is writing into {output}: stop it first, or wait."
    try:
        with sigterm_interrupts(), open_keyspace(settings, endpoints) as client:
            client.require_symbols(options.symbols)
            with held(output / _LOCK_NAME, message), progress:
                outcome = run(client, output, options, progress)
    except KeyboardInterrupt:
        is_table = file_format is ExportFormat.DELTA
        typer.echo(f"Stopped. {_STOPPED_TABLE if is_table else _STOPPED_FILES}", err=True)
        raise typer.Exit(_STOPPED_EXIT_CODE) from None
    if not outcome.files and not outcome.kept:
        _explain_nothing(options)
    for line in summary(outcome, output, options):
        typer.echo(line)


def _refuse_options_of_bars(**given: object) -> None:
    for name, value in given.items():
        if value:
            message = f"--{name} is of bars: leave it out, or export bars."
            raise UsageError(message)


def _delta_job(kind: Kind, length: Length) -> Callable[..., ExportResult]:
    if kind is Kind.TRADES or not isinstance(length, ReadInterval):
        message = "A Delta table holds bars of a time: export others with --format parquet."
        raise UsageError(message)
    try:
        from tapeline.export.delta_job import run_delta_export  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        message = "--format delta needs the package deltalake: pip install 'tapeline[lake]'."
        raise UsageError(message) from error
    return run_delta_export


def _explain_nothing(options: ExportOptions) -> None:
    final = "final bars" if not options.provisional else "bars"
    what = final if options.kind is Kind.BARS else "trades"
    message = (
        f"There are no {what} to write for these symbols and days. `tapeline bars SYMBOL` names "
        "the symbols that are stored; check --keyspace, --symbols, --from and --to."
    )
    raise UsageError(message)


def summary(outcome: ExportResult, output: Path, options: ExportOptions) -> list[str]:
    """Say in sentences what was written and what was not."""
    if outcome.version is not None:
        return _table_summary(outcome, output)
    wrote = f"{counted(outcome.files, 'file')} with {counted(outcome.rows, 'row')}"
    lines = [f"{output}: wrote {wrote}, left {outcome.kept:,} as they were."]
    if outcome.open_days:
        some = counted(
            outcome.open_days,
            "of the files written is of a day that is",
            "of the files written are of days that are",
        )
        lines.append(f"{some} not finalized; run it again for the rest.")
    if outcome.fragments:
        files = counted(len(outcome.fragments), "file")
        lines.append(f"Warning: {_lost(files, options)}: {_first_of(outcome.fragments)}")
    return lines


def _lost(files: str, options: ExportOptions) -> str:
    """Say what the store no longer has of some files, and what that means for them."""
    if options.kind is Kind.TRADES:
        return (
            f"silver no longer has all trades of {files} (it keeps them for "
            "TAPELINE_CASSANDRA__SILVER_TTL_S); what was written before stays, and new files have "
            "what is left"
        )
    if isinstance(options.interval, ReadInterval):
        return (
            f"gold no longer has all bars of {files}, or not all that they are made of (it keeps "
            f"them for TAPELINE_CASSANDRA__GOLD_TTL_S); {_KEPT_BARS}"
        )
    return (
        f"silver or gold no longer has all trades of the {options.interval.name} bars of {files} "
        "(they keep them for TAPELINE_CASSANDRA__SILVER_TTL_S and GOLD_TTL_S); what was written "
        "before stays, and nothing new is written of these days"
    )


def _table_summary(outcome: ExportResult, output: Path) -> list[str]:
    version = f"{output}: version {outcome.version}"
    lines = [f"{version} has all of it already."]
    if outcome.files:
        wrote = f"{counted(outcome.rows, 'row')} in {counted(outcome.files, 'day')}"
        lines = [f"{version} adds or replaces {wrote}, and has {outcome.kept:,} as they were."]
    if outcome.open_days:
        some = counted(outcome.open_days, "of these days is", "of these days are")
        lines.append(f"{some} not finalized; run it again for the rest.")
    if outcome.fragments:
        days = counted(len(outcome.fragments), "day")
        lines.append(
            f"Warning: gold no longer has all bars of {days} of a symbol, or not all that "
            "they are made of (it keeps them for TAPELINE_CASSANDRA__GOLD_TTL_S); "
            f"{_KEPT_BARS}: {_first_of(outcome.fragments)}"
        )
    return lines


def _first_of(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more." if more > 0 else ".")
