"""`tapeline dead-letters`: what was refused, and sending what is valid now."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from enum import Enum
from itertools import islice
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from tapeline.cli.options import Keyspace, TableOrJson, Topic, format_option, using, write_json
from tapeline.dead_letters.letter import Letter
from tapeline.dead_letters.read import frames_of_feed, messages_of_topic
from tapeline.dead_letters.redrive import Redriven, redrive
from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.local.discovery import Endpoints
from tapeline.local.keyspace import open_keyspace
from tapeline.model.reasons import Reason
from tapeline.model.texts import counted
from tapeline.model.times import iso_of_micros, to_micros
from tapeline.model.trade import Trade, encode_trade
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.program.options import LARGEST
from tapeline.program.settings import Settings, load_settings
from tapeline.storage.cassandra_client import CassandraClient

_SHOWN_BYTES: Final = 2000


class Action(str, Enum):
    """What to do with dead letters."""

    LIST = "list"
    SHOW = "show"
    REDRIVE = "redrive"


def dead_letters(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    reason: Annotated[Reason | None, typer.Option(help="Only what was refused for this.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=LARGEST, help="The most letters that `show` prints.")
    ] = 10,
    yes: Annotated[
        bool, typer.Option("--yes", help="Let `redrive` send; otherwise it only counts.")
    ] = False,
    keyspace: Keyspace = None,
    topic: Topic = None,
    output_format: Annotated[
        TableOrJson, format_option("How `list` and `show` write.")
    ] = TableOrJson.TABLE,
) -> None:
    """List, show or send again what was refused: frames of the feed, messages of the topic.

    `redrive` reads them by the rules of today, and with --yes sends to the topic what is valid
    now; each trade is in silver once, however often it is sent.

    Example: tapeline dead-letters list

    Example: tapeline dead-letters redrive --reason unknown_schema --yes
    """
    settings = load_settings().with_target(topic=topic, keyspace=keyspace)
    endpoints = using(settings)
    with open_letters(settings, endpoints) as (client, found):
        why = reason and reason.value
        letters = (letter for letter in found if _is_wanted(letter, why))
        if action is Action.LIST:
            _list(letters, why, output_format)
        elif action is Action.SHOW:
            _show(islice(letters, limit), output_format)
        else:
            servers = endpoints.bootstrap_servers if yes else None
            _redrive(settings, client, letters, servers)


@contextmanager
def open_letters(
    settings: Settings, endpoints: Endpoints
) -> Iterator[tuple[CassandraClient, Iterator[Letter]]]:
    """Connect; yield the client and all letters, those of the feed first."""
    servers = endpoints.bootstrap_servers
    topic_id_of(topic_admin(servers, settings.kafka), settings.kafka.topic)
    with open_keyspace(settings, endpoints) as client:

        def every() -> Iterator[Letter]:
            yield from frames_of_feed(servers, settings.kafka)
            yield from messages_of_topic(client)

        yield client, every()


def _is_wanted(letter: Letter, reason: str | None) -> bool:
    return reason is None or any(why == reason for _, why in letter.refusals)


def counts(letters: Iterable[Letter], reason: str | None = None) -> list[dict[str, Any]]:
    """Return how much was refused by origin, reason and symbol, the most first, and the newest."""
    number: Counter[tuple[str, str, str | None]] = Counter()
    newest: dict[tuple[str, str, str | None], int] = {}
    for letter in letters:
        for why, symbol in letter.entries():
            if reason in {None, why}:
                key = letter.origin.value, why, symbol
                number[key] += 1
                newest[key] = max(newest.get(key, 0), letter.received_us)
    return [
        {
            "origin": origin,
            "reason": why,
            "symbol": symbol,
            "count": count,
            "newest": iso_of_micros(newest[origin, why, symbol]),
        }
        for (origin, why, symbol), count in number.most_common()
    ]


def _list(letters: Iterable[Letter], reason: str | None, output_format: TableOrJson) -> None:
    rows = counts(letters, reason)
    total = sum(row["count"] for row in rows)
    if output_format is TableOrJson.JSON:
        write_json({"total": total, "refused": rows})
        return
    if not rows:
        typer.echo("There are no dead letters.")
        return
    table = Table()
    for name in ("from", "reason", "symbol", "count", "newest"):
        table.add_column(name, overflow="fold")
    for row in rows:
        cells = (row["origin"], row["reason"], row["symbol"] or "", f"{row['count']:,}")
        table.add_row(*cells, row["newest"])
    console = Console(markup=False)
    console.print(table)
    console.print(f"{total:,} refused in all.", highlight=False)


def _show(letters: Iterable[Letter], output_format: TableOrJson) -> None:
    rows: list[dict[str, Any]] = [
        {
            "place": letter.place,
            "origin": letter.origin.value,
            "received_at": iso_of_micros(letter.received_us),
            "refused": [{"index": index, "reason": why} for index, why in letter.refusals],
            "bytes": len(letter.data),
            # What is no text is shown as it would stand in a Python program.
            "data": repr(letter.data[:_SHOWN_BYTES])[2:-1],
        }
        for letter in letters
    ]
    if output_format is TableOrJson.JSON:
        write_json(rows)
        return
    for row in rows:
        why = ", ".join(
            r["reason"] if r["index"] is None else f"{r['reason']} at {r['index']}"
            for r in row["refused"]
        )
        size = counted(row["bytes"], "byte")
        typer.echo(f"{row['place']}  {row['received_at']}  {why}  {size}")
        typer.echo(f"  {row['data']}")
    if not rows:
        typer.echo("There are no dead letters.")


def _redrive(
    settings: Settings,
    client: CassandraClient,
    letters: Iterable[Letter],
    servers: str | None,
) -> None:
    """Say what is valid now, and send it where there are servers to send it to."""
    lifetime = timedelta(seconds=settings.cassandra.silver_ttl_s)
    expired_us = to_micros(datetime.now(timezone.utc) - lifetime) if lifetime else 0
    found = redrive(letters, expired_us, client)
    if servers is not None:
        asyncio.run(_send(settings, servers, found.trades))
    for line in summary(found, is_sent=servers is not None):
        typer.echo(line)


def summary(found: Redriven, *, is_sent: bool) -> list[str]:
    """Say in sentences what was found and done."""
    number = counted(len(found.trades), "trade")
    lines = [f"Sent: {number}." if is_sent else f"Valid now, to be sent with --yes: {number}."]
    for count, text in (
        (found.stored, "In silver already"),
        (found.expired, "Valid, but received so long ago that silver has begun to lose their time"),
        (found.refused, "Still refused"),
    ):
        if count:
            lines.append(f"{text}: {count:,}.")
    return lines


async def _send(settings: Settings, servers: str, trades: Iterable[Trade]) -> None:
    producer = KafkaProducer(servers, settings.kafka.topic, settings.kafka)
    for trade in trades:
        await producer.send(trade.symbol, encode_trade(trade))
    producer.flush()
