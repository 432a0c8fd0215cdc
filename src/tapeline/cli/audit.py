"""`tapeline audit`: prove that the stored bars are right."""

from __future__ import annotations

import io
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tapeline.audit.context import Scope
from tapeline.audit.findings import Findings
from tapeline.audit.report import json_report, print_report
from tapeline.audit.run import run_audit
from tapeline.model.errors import AuditError, UsageError
from tapeline.model.symbols import selected_symbols
from tapeline.model.times import TIME_FORMATS
from tapeline.program.settings import load_settings

_FILE_WIDTH: Final = 200


class ReportFormat(str, Enum):
    """How the report is written."""

    TABLE = "table"
    JSON = "json"


def audit(
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=TIME_FORMATS, help="First window, UTC; the oldest."),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", formats=TIME_FORMATS, help="Windows start before this, UTC."),
    ] = None,
    symbols: Annotated[
        str | None, typer.Option(help="In the feed's names, with commas; all of them.")
    ] = None,
    keyspace: Annotated[str | None, typer.Option(help="market_data by default.")] = None,
    topic: Annotated[str | None, typer.Option(help="trades_raw by default.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="CSV of five-minute bars to compare ours with.")
    ] = None,
    output_format: Annotated[
        ReportFormat, typer.Option("--format", help="How to write the report.")
    ] = ReportFormat.TABLE,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write.")] = None,
) -> None:
    """Check every layer against the one before it; exit code 1 if anything differs.

    Kafka against bronze byte for byte, bronze against silver and quarantine, silver against
    the bars recomputed without Spark, and the bars against a vendor's.

    Example: tapeline audit --from 2026-11-20 --to 2026-11-21 --symbols AAPL,MSFT
    """
    settings = load_settings().with_target(topic=topic, keyspace=keyspace)
    utc = timezone.utc
    scope = Scope.of(
        start and start.replace(tzinfo=utc),
        end and end.replace(tzinfo=utc),
        selected_symbols(symbols),
    )
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    with progress:
        findings = run_audit(settings, scope, against, progress)
    _write(findings, output_format, output)
    if findings.total_differences:
        message = (
            f"{findings.total_differences:,} differences: what is stored is not what the layer "
            "before it makes."
        )
        raise AuditError(message)


def _write(findings: Findings, output_format: ReportFormat, output: Path | None) -> None:
    text = io.StringIO()
    if output_format is ReportFormat.JSON:
        text.write(json_report(findings))
    elif output is not None:
        print_report(findings, Console(file=text, width=_FILE_WIDTH))
    else:
        print_report(findings, Console())
    if output is None:
        typer.echo(text.getvalue(), nl=False)
        return
    try:
        output.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        message = f"The report cannot be written: {error}"
        raise UsageError(message) from error
