"""`tapeline doctor`: what a user may have wrong, and what to do about it."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tapeline.cli.options import Keyspace, TableOrJson, Topic, format_option, write_json
from tapeline.model.errors import UsageError
from tapeline.model.names import check_keyspace_name, check_topic_name
from tapeline.program.settings import load_settings
from tapeline.status.doctor.finding import Finding, Outcome, has_failed
from tapeline.status.doctor.run import check_everything, check_programs
from tapeline.status.doctor.settings_check import refused_settings

_STYLES: Final = {
    Outcome.OK: "green",
    Outcome.WARN: "yellow",
    Outcome.FAIL: "bold red",
    Outcome.NOT_CHECKED: "dim",
}


def doctor(
    keyspace: Keyspace = None,
    topic: Topic = None,
    output_format: Annotated[TableOrJson, format_option("How to write it.")] = TableOrJson.TABLE,
) -> None:
    """Check what may be wrong with machine, settings and services, and say what to do.

    It starts, fetches and changes nothing, and works before anything is installed or started.
    Exit code 0 if nothing failed, 1 if something did.

    Examples: tapeline doctor

    tapeline doctor --keyspace demo --topic demo --format json
    """
    findings = _findings(keyspace, topic)
    failed = has_failed(findings)
    if output_format is TableOrJson.JSON:
        write_json({"failed": failed, "findings": findings})
    else:
        print_findings(findings, Console(highlight=False, markup=False))
    if failed:
        raise typer.Exit(1)


def print_findings(findings: list[Finding], console: Console) -> None:
    """Print a row for each check."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in findings:
        outcome = Text(finding.outcome.value, _STYLES[finding.outcome])
        table.add_row(outcome, finding.check, Text(finding.sentence, overflow="fold"))
    console.print(table)
    count = sum(finding.outcome is Outcome.FAIL for finding in findings)
    console.print(Text(f"{count} failed." if count else "Nothing failed.", "bold"))


def _findings(keyspace: str | None, topic: str | None) -> list[Finding]:
    if keyspace is not None:
        check_keyspace_name(keyspace)
    if topic is not None:
        check_topic_name(topic)
    try:
        settings = load_settings()
    except UsageError as error:
        return [*check_programs(), *refused_settings(error)]
    return list(check_everything(settings.with_target(keyspace=keyspace, topic=topic)))
