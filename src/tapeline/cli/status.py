"""`tapeline status`: one screen of health, for people and for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tapeline.cli.options import Keyspace, TableOrJson, format_option, write_json
from tapeline.cli.render.live_bars import age_of
from tapeline.model.texts import counted
from tapeline.program.settings import load_settings
from tapeline.status.bar_counts import BarCounts
from tapeline.status.check import check_health
from tapeline.status.flow import FeedState, Flow
from tapeline.status.health import Health, Service, problems_of


def status(
    keyspace: Keyspace = None,
    topic: Annotated[str | None, typer.Option(help="Kafka topic; trades_raw by default.")] = None,
    output_format: Annotated[TableOrJson, format_option("How to write it.")] = TableOrJson.TABLE,
) -> None:
    """Say what runs, how far it is and what is wrong; exit code 0 if all is well, 1 if not.

    Times are UTC; bars are those of five minutes that began today.

    Example: tapeline status --keyspace demo --topic demo
    """
    settings = load_settings().with_target(topic=topic, keyspace=keyspace)
    health = check_health(settings, datetime.now(timezone.utc))
    problems = problems_of(health)
    if output_format is TableOrJson.JSON:
        write_json({"healthy": not problems, "problems": problems, **asdict(health)})
    else:
        print_health(health, problems, Console(highlight=False, markup=False))
    if problems:
        raise typer.Exit(1)


def print_health(health: Health, problems: list[str], console: Console) -> None:
    """Print one line for each part, then what is wrong."""
    title = f"{health.at:%Y-%m-%d %H:%M:%S} UTC, keyspace {health.keyspace}, topic {health.topic}"
    console.print(Text(title, "bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, text in _lines(health):
        table.add_row(name, Text(text, overflow="fold"))
    console.print(table)
    if not problems:
        console.print(Text("Healthy.", "bold green"))
    for problem in problems:
        console.print(Text.assemble(("Problem: ", "bold red"), problem), soft_wrap=True)


def _lines(health: Health) -> Iterator[tuple[str, str]]:
    for service in health.services:
        yield service.name.capitalize(), _service(service)
    if health.flow is not None:
        yield from _flow_lines(health.flow, health.at)
    if health.bars is not None:
        yield "Bars today", _bars(health.bars)
    disk = health.disk
    yield "Disk", f"{disk.used_mb:,} MB used, {disk.free_mb:,} MB free at {disk.home}"


def _service(service: Service) -> str:
    text = f"{service.address} ({service.found})"
    if service.pid is not None:
        text += f", process {service.pid}"
    if service.memory_mb is not None:
        text += f", {service.memory_mb:,} MB"
    return text if service.trouble is None else f"{text}: does not work"


def _flow_lines(flow: Flow, now: datetime) -> Iterator[tuple[str, str]]:
    yield "Feed", _feed(flow)
    gaps = [
        f"{g.kind} since {g.since:%m-%d %H:%M:%S}, {counted(g.symbols, 'symbol')}"
        for g in flow.gaps
    ]
    yield "Open gaps", "; ".join(gaps) or "none"
    messages = counted(flow.messages, "message")
    unread = counted(flow.unread, f"of {messages} is", f"of {messages} are")
    yield "Unread", f"{unread} not in silver yet"
    if flow.newest_trade is None or flow.newest_receipt is None:
        yield "Newest", "no trade in silver yet"
    else:
        ago = age_of(now - flow.newest_receipt)
        yield "Newest", f"trade of {flow.newest_trade:%Y-%m-%d %H:%M:%S}, received {ago} ago"
    front = f"{flow.frontier:%Y-%m-%d %H:%M:%S}" if flow.frontier else "none: no trade lately"
    yield "Frontier", front
    late = f", {flow.overdue:,} of them overdue" if flow.overdue else ""
    yield "Windows", f"{flow.open_windows:,} not finalized{late}"


def _feed(flow: Flow) -> str:
    if flow.state is FeedState.ENDED:
        return "a tape, which has ended"
    if flow.state is FeedState.STALE:
        return "no producer reports"
    connected = [p for p in flow.living if p.connected]
    symbols = sum(p.symbols for p in connected)
    producers = f"{len(connected)} of {counted(len(flow.living), 'producer')}"
    text = f"{producers} connected, {counted(symbols, 'symbol')}"
    return f"{text}, {counted(flow.pending, 'trade')} not in Kafka yet" if flow.pending else text


def _bars(bars: BarCounts) -> str:
    symbols = counted(bars.symbols, "symbol")
    text = f"{bars.final:,} final, {bars.provisional:,} provisional, of {symbols}"
    if bars.revised:
        text += f"; {bars.revised:,} revised"
    return f"{text}; {bars.incomplete:,} incomplete" if bars.incomplete else text
