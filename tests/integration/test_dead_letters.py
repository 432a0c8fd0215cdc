"""Dead letters on real services: as many as were injected, and each redriven once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from confluent_kafka import Producer
from pydantic import SecretStr

from tapeline.cli.dead_letters import Action, dead_letters
from tapeline.cli.options import TableOrJson
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.model.trade import Trade, encode_trade
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.origin import Origin
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.spool_folder import Spools
from tapeline.simulator.faults import FaultyFeed, parse_faults
from tapeline.simulator.ledger import SentReport
from tapeline.simulator.server import ServerOptions, SimulatedFinnhub
from tapeline.simulator.tape import Tape
from tests.pipeline import TOKEN, Pipeline

FRAMES = 10_000
# Young enough not to have expired from silver.
NOW_MS = int((datetime.now(timezone.utc) - timedelta(days=1)).timestamp()) * 1000
GOOD = {"s": "AAPL", "p": 189.5, "v": 100, "t": NOW_MS, "c": ["1"]}


def a_tape(folder: Path) -> Path:
    """A trade each 100 ms, so a trade a frame."""
    path = folder / "tape.csv"
    lines = (f"{NOW_MS + 100 * n},S{n % 5},{100 + n / 100},{1 + n % 7},1" for n in range(FRAMES))
    head = "event_time_ms,symbol,price,volume,conditions"
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


def send_poisoned(pipeline: Pipeline, path: Path, *faults: str) -> SentReport:
    """Play a tape with faults into the producer; return what the simulator says it sent."""

    async def run() -> SentReport:
        tape = Tape(path, frame_ms=100)
        port = free_port(0)
        feed = FaultyFeed(tape, parse_faults(faults), seed=7)
        server = SimulatedFinnhub(ServerOptions(LOOPBACK, port, TOKEN, speed=None), feed)
        finnhub = pipeline.settings.finnhub.model_copy(update={"url": f"ws://{LOOPBACK}:{port}"})
        async with server.serve():
            await ProducerPipeline(
                pipeline.settings,
                Origin("replay", "test", pipeline.topic_id),
                FinnhubClient(finnhub, SecretStr(TOKEN), tape.symbols),
                KafkaProducer(pipeline.endpoints.bootstrap_servers, pipeline.name),
                Spools(pipeline.spool("test")),
            ).run()
        return server.ledger.report

    return asyncio.run(run())


def said(
    pipeline: Pipeline, capfd: pytest.CaptureFixture[str], action: Action, *, yes: bool = False
) -> str:
    capfd.readouterr()
    dead_letters(
        action,
        yes=yes,
        keyspace=pipeline.name,
        topic=pipeline.name,
        output_format=TableOrJson.JSON,
    )
    return capfd.readouterr().out


def refuse(pipeline: Pipeline, data: bytes, refusals: list[tuple[int | None, str]]) -> None:
    """Write a letter as a producer of earlier rules would have."""
    producer = Producer({"bootstrap.servers": pipeline.endpoints.bootstrap_servers})
    headers: list[tuple[str, str | bytes | None]] = [
        ("reason", refusals[0][1]),
        ("rejects", json.dumps(refusals)),
        ("topic", pipeline.name),
        ("source", "finnhub"),
        ("received_at_us", str(NOW_MS * 1000 + 9_000_000)),
    ]
    producer.produce(pipeline.settings.kafka.dead_letter_topic, data, "test", headers=headers)
    assert producer.flush(120) == 0


def test_as_many_dead_letters_are_listed_as_were_injected_and_none_is_sent(
    pipeline: Pipeline, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sent = send_poisoned(pipeline, a_tape(tmp_path), "malformed=0.001", "bad=0.001")

    listed = json.loads(said(pipeline, capfd, Action.LIST))
    shown = json.loads(said(pipeline, capfd, Action.SHOW))
    redriven = said(pipeline, capfd, Action.REDRIVE, yes=True)

    assert sent.trades == FRAMES
    assert sent.bad_trades > 3
    assert sent.malformed_frames > 3
    assert listed["total"] == sent.dead_letters
    assert sum(row["count"] for row in listed["refused"]) == sent.dead_letters
    assert {row["origin"] for row in listed["refused"]} == {"feed"}
    assert len(shown) == 10
    assert all(row["refused"] and row["data"] for row in shown)
    # What is no trade today either is not sent.
    assert redriven.splitlines() == ["Sent: 0 trades.", f"Still refused: {sent.dead_letters:,}."]


def test_what_is_valid_after_a_fix_is_in_silver_once_however_often_it_is_redriven(
    pipeline: Pipeline, capfd: pytest.CaptureFixture[str]
) -> None:
    """Twins count each; a frame that came twice counts once; its good trades stay as they were."""
    mixed = [GOOD, {**GOOD, "p": 190.0}, GOOD, {**GOOD, "p": -1}, GOOD]
    accepted = Trade("AAPL", 190.0, 100.0, NOW_MS, ("1",), 4, NOW_MS * 1000, 0, "finnhub")
    data = json.dumps({"type": "trade", "data": mixed}).encode()
    for _ in range(2):
        refuse(pipeline, data, [(0, "bad_price"), (2, "bad_price"), (3, "bad_price"), (4, "x")])
    refuse(
        pipeline,
        json.dumps({"type": "trade", "data": [{**GOOD, "s": "KO"}]}).encode(),
        [(None, "wrong_type")],
    )
    pipeline.send_messages([("AAPL", encode_trade(accepted))])
    pipeline.ingest()
    before = Counter((r["symbol"], r["price"]) for r in pipeline.rows("trades_silver"))

    dry = said(pipeline, capfd, Action.REDRIVE)
    sent = said(pipeline, capfd, Action.REDRIVE, yes=True)
    at_once = said(pipeline, capfd, Action.REDRIVE, yes=True)  # the stream has not read it yet
    pipeline.ingest()
    later = said(pipeline, capfd, Action.REDRIVE, yes=True)
    silver = [(r["symbol"], r["price"], r["source"]) for r in pipeline.rows("trades_silver")]

    assert before == {("AAPL", 190.0): 1}
    assert dry.splitlines()[0] == "Valid now, to be sent with --yes: 4 trades."
    assert "Still refused: 2." in dry
    assert sent.splitlines()[0] == at_once.splitlines()[0] == "Sent: 4 trades."
    assert later.splitlines()[:2] == ["Sent: 0 trades.", "In silver already: 4."]
    assert Counter(silver) == {
        ("AAPL", 189.5, "finnhub"): 3,
        ("AAPL", 190.0, "finnhub"): 1,
        ("KO", 189.5, "finnhub"): 1,
    }
    assert len(pipeline.rows("trades_bronze")) == 1 + 4 + 4


def test_messages_in_quarantine_are_redriven_and_what_is_too_old_is_not(
    pipeline: Pipeline, capfd: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(timezone.utc)
    ages = {0: timedelta(hours=1), 1: timedelta(days=29), 2: timedelta(days=31)}
    for offset, age in ages.items():
        received = now - age
        ms = int(received.timestamp() * 1000)
        trade = Trade("KO", 70.0 + offset, 5.0, ms, None, 90 + offset, ms * 1000, 0, "finnhub")
        pipeline.session.execute(
            "INSERT INTO trades_quarantine (topic_id, kafka_partition, bucket, kafka_offset, "
            "kafka_timestamp, reason, message_key, message) "
            "VALUES (%s, 0, 0, %s, %s, 'unknown_schema', %s, %s)",
            (pipeline.topic_id, offset, received, b"KO", encode_trade(trade)),
        )
    listed = json.loads(said(pipeline, capfd, Action.LIST))

    for _ in range(2):
        sent = said(pipeline, capfd, Action.REDRIVE, yes=True)
    pipeline.ingest()

    (row,) = listed["refused"]
    assert (row["origin"], row["reason"], row["symbol"], row["count"]) == (
        "topic",
        "unknown_schema",
        "KO",
        3,
    )
    assert sent.splitlines()[0] == "Sent: 2 trades."
    assert "silver has begun to lose their time: 1." in sent
    assert sorted(r["price"] for r in pipeline.rows("trades_silver")) == [70.0, 71.0]
