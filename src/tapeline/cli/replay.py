"""`tapeline replay`: a tape through every part, from the simulator's frames to final bars."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from tapeline.cli.options import progress_on
from tapeline.kafka.topics import create_topics, delete_topic, topic_admin, topic_id_of
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.keyspace import open_keyspace
from tapeline.local.lock import only_one
from tapeline.local.services import running_services
from tapeline.local.supervisor import child_process, keep_alive
from tapeline.model.bar import Interval
from tapeline.model.errors import StreamError
from tapeline.model.texts import counted
from tapeline.program.logs import configure_logging
from tapeline.program.process import sigterm_interrupts
from tapeline.program.rule_file import PolicyOption
from tapeline.program.settings import Settings, load_settings
from tapeline.simulator.child import simulated_feed
from tapeline.simulator.faults import FAULT_HELP, parse_faults
from tapeline.simulator.ledger import SentReport
from tapeline.simulator.main import DEFAULT_FRAME_MS, parse_speed
from tapeline.simulator.tape import Tape
from tapeline.simulator.tape_file.options import (
    CheckOption,
    CodesOption,
    ColumnsOption,
    FormatOption,
    SymbolOption,
    tape_form,
)
from tapeline.storage.cassandra_client import CassandraClient

REPLAY: Final = "replay"
"""Keyspace that a replay uses, emptied first, unless it is told another."""

_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Replayed:
    """What went in and what came out of each layer."""

    tape: int
    sent: SentReport
    kafka: int
    bronze: int
    silver: int
    quarantine: int
    final_5m: int
    final_1h: int
    windows: int
    hours: int

    def is_complete(self) -> bool:
        """Return whether every trade sent is in every layer and every bar is final."""
        return (
            self.sent.trades <= self.kafka == self.bronze
            and self.final_5m == self.windows
            and self.final_1h == self.hours
        )


def replay(
    tape: Annotated[Path, typer.Argument(help="Trades, CSV (gzip or not) or Parquet.")],
    tape_format: FormatOption = None,
    columns: ColumnsOption = None,
    symbol: SymbolOption = None,
    conditions: CodesOption = None,
    policy: PolicyOption = None,
    speed: Annotated[str, typer.Option(help="'max', or how many times real time.")] = "max",
    into: Annotated[
        str,
        typer.Option(
            help="Keyspace. The default one is emptied first; another is kept, as market_data is."
        ),
    ] = REPLAY,
    fault: Annotated[list[str] | None, typer.Option(help=FAULT_HELP)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the faults.")] = 1,
    *,
    check: CheckOption = False,
) -> None:
    """Send a tape through simulator, producer, Kafka, Spark and Cassandra.

    Ends by itself when every trade is finalized into its bar.

    Example: tapeline replay day.csv.gz --policy sip

    Is it read right: tapeline replay their.csv --columns time=ts,price=px,size=qty --check

    A vendor's: tapeline replay BTCUSDT.csv --format binance --symbol BINANCE:BTCUSDT

    Backfill of one's own trades: tapeline replay my.csv --into market_data
    """
    console = Console(markup=False)
    factor = parse_speed(speed)
    parse_faults(fault or [])
    settings = load_settings().with_target(
        topic=REPLAY if into == REPLAY else f"{REPLAY}_{into}", keyspace=into, policy=policy
    )
    form = tape_form(tape_format, columns, symbol, conditions)
    contents = Tape(tape, DEFAULT_FRAME_MS, form, settings.finnhub.max_frame_bytes)
    if fault or factor is not None:
        contents.require_whole_milliseconds()
    if check:
        _print_lines(console, [f"{contents.notes.title()}.", *contents.notes.in_full()])
        return
    _print_lines(console, [contents.notes.title(), *contents.notes.in_short()])
    configure_logging(settings)
    home = Home(settings.home)
    home.make_writable()
    simulate = ["--tape", str(tape), "--speed", speed, "--seed", str(seed), *form.arguments()]
    simulate += ["--symbol-cap", str(len(contents.symbols))]
    simulate += [text for one in fault or [] for text in ("--fault", one)]
    with (
        sigterm_interrupts(),
        only_one(home, into),
        running_services(settings, console) as endpoints,
        open_keyspace(settings, endpoints, needs_tables=False) as client,
    ):
        with console.status("Making topic and keyspace ready"):
            topic_id = _prepare(settings, endpoints, client)
        started = time.monotonic()
        sent = _run(settings, contents, simulate, client, topic_id, console)
        elapsed_s = time.monotonic() - started
        replayed = _count(client, topic_id, contents.trades, sent)
    _print_summary(replayed, settings, elapsed_s, console, faulty=bool(fault))
    _print_lines(console, contents.notes.unknown_conditions())
    _require_all(replayed, settings, is_faulty=bool(fault) and into == REPLAY)


def _require_all(replayed: Replayed, settings: Settings, *, is_faulty: bool) -> None:
    """Refuse an end at which a trade is in no final bar, or silver holds other than it must.

    Raises:
        StreamError: it is so.
    """
    if not replayed.is_complete():
        message = (
            "Not every trade is in a final bar; "
            f"{counted(replayed.windows, 'five-minute bar')} and "
            f"{counted(replayed.hours, 'hour')} had to be. What is no valid trade is in topic "
            f"{settings.kafka.dead_letter_topic}; the rest is in the logs in "
            f"{Home(settings.home).logs}."
        )
        raise StreamError(message)
    sent = replayed.sent
    if is_faulty and not 0 <= sent.silver - replayed.silver <= sent.unsure:
        message = f"Silver holds {counted(replayed.silver, 'trade')}; it must hold {sent.silver:,}."
        raise StreamError(message)


def _prepare(settings: Settings, endpoints: Endpoints, client: CassandraClient) -> str:
    """Make the topic again and the keyspace ready; return the topic's id."""
    admin = topic_admin(endpoints.bootstrap_servers, settings.kafka)
    if settings.cassandra.keyspace == REPLAY:
        client.drop_schema()
    client.create_schema()  # first, for it may refuse, and so may the next
    client.claim_policy(settings.stream.policy)
    shutil.rmtree(_checkpoints(settings), ignore_errors=True)
    delete_topic(admin, settings.kafka.topic)
    create_topics(admin, settings.kafka)
    return topic_id_of(admin, settings.kafka.topic)


def _checkpoints(settings: Settings) -> Path:
    return Home(settings.home).checkpoints / f"replay-{settings.cassandra.keyspace}"


def _run(
    settings: Settings,
    contents: Tape,
    simulate: list[str],
    client: CassandraClient,
    topic_id: str,
    console: Console,
) -> SentReport:
    """Run the three children until the stream says that all is finalized; return what was sent."""
    kafka, cassandra = settings.kafka, settings.cassandra
    report = Home(settings.home).logs / f"sent-{cassandra.keyspace}.json"
    produce = ["produce", "--source", REPLAY, "--topic", kafka.topic]
    # A list of some thousand is longer than an argument may be.
    named = Home(settings.home).logs / f"symbols-{cassandra.keyspace}.txt"
    named.parent.mkdir(parents=True, exist_ok=True)  # services that are set made none
    named.write_text("\n".join(contents.symbols), encoding="utf-8")
    produce += ["--symbols-file", str(named)]
    produce += ["--speed", simulate[simulate.index("--speed") + 1]]
    stream = ["stream", "--topic", kafka.topic, "--keyspace", cassandra.keyspace]
    stream += ["--checkpoint-dir", str(_checkpoints(settings)), "--until-final"]
    stream += ["--policy", settings.stream.policy.option]
    with ExitStack() as stack:
        streaming = stack.enter_context(child_process(stream, settings.home))
        feed = stack.enter_context(
            simulated_feed(settings.home, [*simulate, "--report", str(report)])
        )
        producing = stack.enter_context(child_process(produce, settings.home, feed.environment))
        with progress_on(console) as progress:
            silver = progress.add_task("trades in silver", total=contents.trades)
            while streaming.exit_code != 0:
                keep_alive((streaming, feed.child, producing))
                done = sum(p.committed_offset + 1 for p in client.progress(topic_id).values())
                progress.update(silver, completed=done)
                time.sleep(_POLL_S)
            progress.update(silver, completed=contents.trades)
    return SentReport.read(report)


def _count(client: CassandraClient, topic_id: str, tape: int, sent: SentReport) -> Replayed:
    progress = client.progress(topic_id)
    committed = {p.kafka_partition: p.committed_offset for p in progress.values()}
    states = client.states_up_to({(topic_id, p): offset for p, offset in committed.items()})
    windows = {(state.symbol, state.window_start) for state in states}
    hours = {(symbol, start.replace(minute=0)) for symbol, start in windows}
    return Replayed(
        tape=tape,
        sent=sent,
        kafka=sum(o + 1 for o in committed.values()),
        bronze=client.count_messages("trades_bronze", topic_id, committed),
        silver=client.count_silver(windows),
        quarantine=client.count_messages("trades_quarantine", topic_id, committed),
        final_5m=_count_final(client, Interval.FIVE_MINUTES, windows),
        final_1h=_count_final(client, Interval.ONE_HOUR, hours),
        windows=len(windows),
        hours=len(hours),
    )


def _count_final(
    client: CassandraClient, interval: Interval, keys: Collection[tuple[str, datetime]]
) -> int:
    return sum(s.bar.is_final for s in client.stored_bars(interval, list(keys)).values())


def _print_lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _print_summary(
    replayed: Replayed, settings: Settings, elapsed_s: float, console: Console, *, faulty: bool
) -> None:
    table = Table(title=f"Keyspace {settings.cassandra.keyspace}")
    table.add_column("layer")
    table.add_column("rows", justify="right")
    for name, count in (
        ("tape", replayed.tape),
        ("Kafka", replayed.kafka),
        ("trades_bronze", replayed.bronze),
        ("trades_silver", replayed.silver),
        ("trades_quarantine", replayed.quarantine),
        ("trades_gold_5m, final", replayed.final_5m),
        ("trades_gold_1h, final", replayed.final_1h),
    ):
        table.add_row(name, f"{count:,}")
    console.print(table)
    sent = replayed.sent
    if faulty:
        console.print(
            f"Faults: {counted(sent.redelivered, 'trade')} sent again, {sent.ambiguous:,} of them "
            f"alike to twins; {counted(sent.bad_trades, 'bad trade')}, "
            f"{counted(sent.malformed_frames, 'malformed frame')}, {counted(sent.drops, 'drop')}, "
            f"{counted(sent.silences, 'silence')}. Silver must hold "
            f"{counted(sent.silver, 'trade')}."
        )
    if replayed.is_complete():
        console.print(f"Every bar is final after {elapsed_s:.1f} s.")
