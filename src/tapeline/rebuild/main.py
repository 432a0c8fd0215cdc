"""`tapeline rebuild`: silver from bronze, gold from silver."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Annotated, Final

import typer
from rich.console import Console

from tapeline.local.discovery import find_endpoints
from tapeline.local.home import Home
from tapeline.model.symbols import selected_symbols
from tapeline.model.texts import counted
from tapeline.model.times import TIME_FORMATS, time_span
from tapeline.program.logs import configure_logging
from tapeline.program.process import end_with_parent, sigterm_interrupts
from tapeline.program.rule_file import PolicyOption
from tapeline.program.settings import SECRET_VARIABLES, LogLevel, load_settings
from tapeline.rebuild.job import RebuildLayer, RebuildOptions, run_rebuild
from tapeline.rebuild.progress import Progress
from tapeline.rebuild.selection import Selection

_STOPPED_EXIT_CODE: Final = 130


def rebuild(
    layer: Annotated[RebuildLayer, typer.Argument(help="What to make again.")],
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=TIME_FORMATS, help="First window, UTC; the oldest."),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", formats=TIME_FORMATS, help="Windows start before this, UTC."),
    ] = None,
    symbols: Annotated[
        str | None, typer.Option(help="Separated by commas; all by default.")
    ] = None,
    keyspace: Annotated[str | None, typer.Option(help="market_data by default.")] = None,
    topic: Annotated[
        str | None,
        typer.Option(help="Kafka topic whose gaps mark bars that were lost; trades_raw."),
    ] = None,
    policy: PolicyOption = None,
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Let a final bar have fewer trades than before.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Do not go on with an earlier run of this command.")
    ] = False,
    log_level: Annotated[
        LogLevel | None, typer.Option(case_sensitive=False, help="The least that is logged.")
    ] = None,
) -> None:
    """Make silver again from bronze, or bars from silver, while the stream may be running.

    A bar that comes out the same is left alone, another one is a revision. Killed, the same
    command goes on where it was.

    Example: tapeline rebuild gold --from 2026-11-20 --symbols AAPL,MSFT
    """
    settings = load_settings().with_target(topic=topic, keyspace=keyspace, policy=policy)
    for name in SECRET_VARIABLES:  # Spark's Java process inherits what is left
        os.environ.pop(name, None)
    configure_logging(settings, log_level)
    selection = Selection(*time_span(start, end), selected_symbols(symbols))
    Home(settings.home).make_writable()
    end_with_parent()
    console = Console(markup=False)
    endpoints = find_endpoints(settings)
    console.print(f"Using {endpoints}", highlight=False)
    options = RebuildOptions(layer, selection, allow_shrink, restart, any_policy=policy is not None)
    try:
        with sigterm_interrupts():
            progress = run_rebuild(settings, endpoints, options, console)
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on where it was.")
        raise typer.Exit(_STOPPED_EXIT_CODE) from None
    for line in summary(progress, layer):
        console.print(line, highlight=False, soft_wrap=True)


def summary(progress: Progress, layer: RebuildLayer) -> list[str]:
    """Say in sentences what a rebuild has done and what it has not."""
    lines = []
    if layer is RebuildLayer.SILVER:
        lines.append(f"Silver: {counted(progress.messages, 'message')} of bronze written again.")
        if progress.fragments.count:
            lines.append(
                f"Left alone, for bronze or silver has begun to lose their trades: "
                f"{counted(progress.fragments.count, 'window')}: {progress.fragments}."
            )
        if progress.missing_trades:
            lines.append(
                f"Still missing: {counted(progress.missing_trades, 'trade')}. What was deleted by "
                "hand is older than its deletion, and comes back once Cassandra has forgotten "
                f"that (gc_grace_seconds). Windows: {progress.missing}."
            )
    lines.append(
        f"Gold: {counted(progress.windows, 'window')} compared; "
        f"{counted(progress.written.count, 'bar')} of five minutes and "
        f"{progress.written_hours.count:,} of one hour written."
    )
    for tally, text in (
        (progress.kept, "Kept, for silver has fewer trades than the bar (--allow-shrink)"),
        (progress.empty, "Without a trade in silver, and left as they are"),
        (progress.expired, "Refused, for their trades have begun to expire from silver"),
        (progress.left, "Left to the stream, which works on them: run it again"),
    ):
        if tally.count:
            lines.append(f"{text}: {counted(tally.count, 'window')}: {tally}.")
    return lines
