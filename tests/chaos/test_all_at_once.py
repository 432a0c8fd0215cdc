"""A feed with every fault at once, and the stream killed amid it: still the bars of the tape.

The tape is made here; its bars are worked out from its rows in plain Python. Copies that nobody can
tell from twins (docs/adr/0011) are counted by the simulator, which knows what it sent twice.
"""

from __future__ import annotations

import csv
import os
import signal
from collections import Counter, defaultdict
from contextlib import closing
from datetime import timezone
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Consumer, TopicPartition

from bench.check import check_tables
from bench.load import START_MS, LoadTrade, SeededLoad, TapeLoad, trade_id
from bench.truth import FIVE_MINUTES_MS, Truth
from tapeline.cli.replay import REPLAY
from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.model.times import to_millis
from tapeline.program.settings import load_settings
from tapeline.simulator.ledger import SentReport
from tapeline.storage.cassandra_client import CassandraClient
from tests.commands import finish, spark_drivers, start, wait_for

COUNT: Final = 20_000
PIECE_MS: Final = 6_000
TWIN_EVERY: Final = 50
LONE_EVERY: Final = 100
FAULTS: Final = ("redeliver=0.1", "repeat=0.1", "reorder=10m", "late=0.02:11m-40m")
SMALL_STEPS: Final = {
    "TAPELINE_STREAM__MAX_OFFSETS_PER_TRIGGER": "2500",
    "TAPELINE_STREAM__FINALIZE_INTERVAL_S": "0.2",
}

Content = tuple[str, int, float, float, tuple[str, ...] | None]
"""Symbol, ms, price, size and conditions: equal in twins."""


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 4))
def test_every_fault_at_once_and_a_kill_give_the_bars_of_the_tape(
    stack: Endpoints, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    tape = TapeLoad(tmp_path / "tape.csv")
    write_tape(tape.path, seed)
    faults = [text for fault in FAULTS for text in ("--fault", fault)]
    replay = start("replay", str(tape.path), "--seed", str(seed), *faults, environment=SMALL_STEPS)
    try:
        (driver,) = wait_for(lambda: spark_drivers(replay.pid), while_runs=replay)
        wait_for(lambda: batches_of(home) >= 3, while_runs=replay)
        os.killpg(os.getpgid(driver.pid), signal.SIGKILL)
        output = finish(replay)
    finally:
        if replay.poll() is None:
            replay.terminate()
            replay.wait()
    assert output.count("child_restarted") == 1, output

    sent = SentReport.read(home.logs / f"sent-{REPLAY}.json")
    settings = load_settings().with_target(topic=REPLAY, keyspace=REPLAY)
    client = CassandraClient(settings.cassandra, stack.cassandra_host, stack.cassandra_port)
    with closing(client):
        twice = copies_in_silver(client, tape)
        assert (sum(twice.values()), sent.unsure) == (sent.ambiguous, 0)
        assert volumes_of(twice) == pytest.approx(sent.ambiguous_volume)
        truth = Truth.of(tape.trades())
        assert sent.trades - sent.redelivered == truth.trades
        assert sent.redelivered > truth.trades // 10
        assert sent.ambiguous > 0
        topic_id = topic_id_of(topic_admin(stack.bootstrap_servers), REPLAY)
        truth = truth_of(tape, twice)
        truth.messages = sent.trades
        check_tables(client.session, REPLAY, truth, last_offsets(stack), topic_id)

    with capsys.disabled():
        told = f"seed {seed}: {sent.trades} trades sent, {sent.redelivered} of them again"
        print(f"\n{told}, {sent.ambiguous} alike to twins, none lost")  # noqa: T201 - for the reader


def write_tape(path: Path, seed: int) -> None:
    """Write trades that come close together, twins too, and lone ones, whose copies look like them.

    The close ones come within six seconds of each five minutes.
    """
    unique = {trade.trade_id: trade for trade in SeededLoad(COUNT, 20, seed).trades()}
    trades = []
    for number, trade in enumerate(unique.values()):
        pieces, rest_ms = divmod(trade.event_time_ms - START_MS, PIECE_MS)
        at_ms = START_MS + pieces * FIVE_MINUTES_MS + rest_ms
        times = 2 if number % TWIN_EVERY == 0 else 1
        trades += [trade._replace(event_time_ms=at_ms)] * times
        if number % LONE_EVERY == 0:
            at_ms += FIVE_MINUTES_MS // 2
            trades.append(trade._replace(symbol="LONE", event_time_ms=at_ms))
    trades.sort(key=lambda t: (t.event_time_ms, t.symbol, t.sequence))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("event_time_ms", "symbol", "price", "volume", "conditions"))
        for t in trades:
            conditions = "|".join(t.conditions or ())
            writer.writerow((t.event_time_ms, t.symbol, t.price, t.volume, conditions))


def batches_of(home: Home) -> int:
    log = home.logs / "stream.log"
    return log.read_text(encoding="utf-8").count("event=batch_ingested") if log.exists() else 0


def content_of(trade: LoadTrade) -> Content:
    return trade.symbol, trade.event_time_ms, trade.price, trade.volume, trade.conditions


def copies_in_silver(client: CassandraClient, tape: TapeLoad) -> Counter[Content]:
    """Return what silver holds more often than the tape; it may lack nothing of it."""
    rows = client.session.execute(
        f"SELECT symbol, event_time, price, volume, conditions FROM {REPLAY}.trades_silver"
    )
    silver: Counter[Content] = Counter(
        (
            row.symbol,
            to_millis(row.event_time.replace(tzinfo=timezone.utc)),
            row.price,
            row.volume,
            None if row.conditions is None else tuple(row.conditions),
        )
        for row in rows
    )
    wanted = Counter(map(content_of, tape.trades()))
    assert wanted - silver == Counter()
    return silver - wanted


def volumes_of(copies: Counter[Content]) -> dict[str, float]:
    """Return the size of copies by symbol and window (ms), as the simulator reports it."""
    volumes: defaultdict[str, float] = defaultdict(float)
    for (symbol, at_ms, _, size, _), times in copies.items():
        volumes[f"{symbol}|{at_ms // FIVE_MINUTES_MS * FIVE_MINUTES_MS}"] += times * size
    return dict(volumes)


def truth_of(tape: TapeLoad, twice: Counter[Content]) -> Truth:
    """Return what the tape makes together with copies that count as twins."""
    trades = list(tape.trades())
    by_content = {content_of(trade): trade for trade in trades}
    copies = [by_content[content] for content in twice.elements()]
    as_twins = [t._replace(trade_id=trade_id(1, n)) for n, t in enumerate(copies)]
    return Truth.of([*trades, *as_twins])


def last_offsets(endpoints: Endpoints) -> dict[int, int]:
    """Return the last offset of each partition of the topic."""
    consumer = Consumer({"bootstrap.servers": endpoints.bootstrap_servers, "group.id": "test"})
    with closing(consumer):
        partitions = consumer.list_topics(REPLAY, timeout=20).topics[REPLAY].partitions
        ends = {
            p: consumer.get_watermark_offsets(TopicPartition(REPLAY, p), timeout=20)[1]
            for p in partitions
        }
    return {p: end - 1 for p, end in ends.items()}
