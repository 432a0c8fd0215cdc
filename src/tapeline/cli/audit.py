"""`tapeline audit`: prove that the stored bars are right."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from tapeline.audit.context import Scope
from tapeline.audit.findings import Findings
from tapeline.audit.report import json_report, print_report
from tapeline.audit.run import run_audit
from tapeline.cli.options import (
    Keyspace,
    OutputFile,
    TableOrJson,
    Topic,
    format_option,
    from_option,
    progress_on,
    to_option,
)
from tapeline.model.errors import AuditError, UsageError
from tapeline.model.symbols import selected_symbols
from tapeline.model.texts import counted
from tapeline.model.times import time_span
from tapeline.program.options import input_file
from tapeline.program.rule_file import PolicyOption
from tapeline.program.settings import load_settings

_FILE_WIDTH: Final = 200


def audit(
    start: Annotated[datetime | None, from_option("First window, UTC; the oldest.")] = None,
    end: Annotated[datetime | None, to_option("Windows start before this, UTC.")] = None,
    symbols: Annotated[
        str | None, typer.Option(help="In the feed's names, with commas; all of them.")
    ] = None,
    keyspace: Keyspace = None,
    topic: Topic = None,
    against: Annotated[
        Path | None,
        typer.Option(
            callback=input_file,
            help="Bars of 5m or 1h to compare ours with: a CSV, or candles of Finnhub as JSON.",
        ),
    ] = None,
    policy: PolicyOption = None,
    output_format: Annotated[
        TableOrJson, format_option("How to write the report.")
    ] = TableOrJson.TABLE,
    output: OutputFile = None,
) -> None:
    """Check every layer against the one before it; exit code 1 if anything differs.

    Kafka against bronze byte for byte, bronze against silver and quarantine, silver against
    the bars recomputed without Spark, and the bars against a vendor's. Each bar is recomputed by
    its own policy; one of a file of rules needs that file.

    Example: tapeline audit --from 2026-11-20 --to 2026-11-21 --symbols AAPL,MSFT
    """
    settings = load_settings().with_target(topic=topic, keyspace=keyspace, policy=policy)
    scope = Scope.of(*time_span(start, end), selected_symbols(symbols))
    progress = progress_on(Console(stderr=True, markup=False))
    with progress:
        findings = run_audit(settings, scope, against, progress)
    _write(findings, output_format, output)
    if findings.total_differences:
        message = (
            f"{counted(findings.total_differences, 'difference')}: what is stored is not what the "
            "layer before it makes."
        )
        raise AuditError(message)


def _write(findings: Findings, output_format: TableOrJson, output: Path | None) -> None:
    text = io.StringIO()
    if output_format is TableOrJson.JSON:
        text.write(json_report(findings))
    elif output is not None:
        print_report(findings, Console(file=text, width=_FILE_WIDTH, markup=False))
    else:
        print_report(findings, Console(markup=False))
    if output is None:
        typer.echo(text.getvalue(), nl=False)
        return
    try:
        output.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        message = f"The report cannot be written: {error}"
        raise UsageError(message) from error
