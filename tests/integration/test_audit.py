"""The audit on real Kafka, Spark and Cassandra: clean when clean, and every tampering found."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from rich.progress import Progress, TaskID

from tapeline.audit.context import Scope
from tapeline.audit.findings import NO_SILVER, Difference, Findings, Pair
from tapeline.audit.run import run_audit
from tapeline.live.decode import decode_trade
from tapeline.local.discovery import Endpoints
from tapeline.model.times import to_millis
from tapeline.model.trade import Trade, encode_trade
from tests.commands import fail, run
from tests.hand import TAPE, TRADES
from tests.pipeline import Pipeline

WINDOW = datetime(2024, 3, 15, 14, 30, tzinfo=timezone.utc)
WINDOW_MS = 1_710_513_000_000
BAR = f"symbol = 'TEST' AND bucket = {WINDOW_MS}"
HOUR = WINDOW.replace(minute=0)
LAST = WINDOW + timedelta(hours=2)  # the bar of 16:30
BAD = [None, b"no avro", b"\xc3\x01" + bytes(20)]


@pytest.fixture(scope="module")
def finalized(
    stack: Endpoints, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """The tape worked by hand, delivered twice, and bad messages; every bar is final.

    Tests change it and put it right again.
    """
    folder = tmp_path_factory.mktemp("audit")
    with Pipeline.create(spark, stack, f"t{uuid.uuid4().hex[:12]}", folder) as parts:
        parts.send_tape(TAPE, producer_id="first")
        parts.send_messages([("TEST", value) for value in BAD])
        parts.send_tape(TAPE, producer_id="second")
        parts.ingest()
        parts.finalize()
        yield parts


def audit(pipeline: Pipeline, scope: Scope | None = None) -> Findings:
    return run_audit(pipeline.settings, scope or Scope(), None, Progress(disable=True))


def is_message_of(message: bytes | None, row: Any) -> bool:
    """Return whether silver has its row of a trade from this message, by id and receipt."""
    trade = decode_trade(message, to_millis(datetime.now(timezone.utc)))
    received_ms = to_millis(row.received_at.replace(tzinfo=timezone.utc))
    return trade is not None and (trade.trade_id, trade.received_at_us // 1000) == (
        row.trade_id,
        received_ms,
    )


def checked(findings: Findings) -> dict[Pair, int]:
    return {pair: count.checked for pair, count in findings.in_order()}


def about(differences: list[Difference]) -> set[tuple[Pair, str, datetime | None, str]]:
    return {(d.pair, d.interval.value, d.window_start, d.what) for d in differences}


@contextmanager
def tampered(pipeline: Pipeline, table: str, where: str, change: str | None) -> Iterator[None]:
    """Change a row, or delete it when there is no change, and put it back at the end."""
    session = pipeline.session
    (before,) = session.execute(f"SELECT JSON * FROM {table} WHERE {where}").one()
    if change is None:
        session.execute(f"DELETE FROM {table} WHERE {where}")
    else:
        session.execute(f"UPDATE {table} SET {change} WHERE {where}")
    try:
        yield
    finally:
        session.execute(f"INSERT INTO {table} JSON %s", (before,))


def first_trade(pipeline: Pipeline) -> tuple[str, int]:
    """Return where silver has the trade at 14:30:00.250, and its id."""
    time_ms = WINDOW_MS + 250
    row = pipeline.session.execute(
        f"SELECT trade_id FROM trades_silver WHERE {BAR} AND event_time = {time_ms}"
    ).one()
    return f"{BAR} AND event_time = {time_ms} AND trade_id = {row.trade_id}", row.trade_id


def test_what_the_parts_have_made_is_right_in_every_layer(finalized: Pipeline) -> None:
    findings = audit(finalized)

    assert findings.differences == []
    assert checked(findings) == {
        Pair.KAFKA_BRONZE: 2 * TRADES + len(BAD),
        Pair.BRONZE_SILVER: 2 * TRADES + len(BAD),
        Pair.SILVER_GOLD: 5,
        Pair.GOLD_HOURS: 3,
    }
    assert findings.unaudited == {}
    assert all(count.not_yet == 0 for _, count in findings.in_order())


def test_a_changed_row_of_silver_names_its_bar_and_trade(finalized: Pipeline) -> None:
    where, trade_id = first_trade(finalized)
    with tampered(finalized, "trades_silver", where, "volume = 11"):
        found = audit(finalized).differences

    (trade,) = (d for d in found if d.pair is Pair.BRONZE_SILVER)
    assert (trade.what, trade.expected, trade.found) == ("volume", "10.0", "11.0")
    assert (trade.symbol, trade.window_start) == ("TEST", WINDOW)
    assert trade.trade is not None
    assert trade.trade.trade_id == trade_id
    assert trade.trade.event_time == WINDOW + timedelta(milliseconds=250)
    bars = [d for d in found if d.pair is not Pair.BRONZE_SILVER]
    # The odd lot of 10 at 11.00 sets no price: 600 and 6,000.50 are worked out by hand.
    assert {(d.what, d.expected, d.found) for d in bars} == {
        ("volume", "601", "600"),
        ("notional", "6011.5", "6000.5"),
        ("vwap", str(6011.5 / 601), str(6000.5 / 600)),
        ("unpriced_volume", "11", "10"),
    }
    assert {(d.pair, d.symbol, d.window_start) for d in bars} == {
        (Pair.SILVER_GOLD, "TEST", WINDOW)
    }


def test_a_deleted_row_of_silver_names_its_bar_and_trade(finalized: Pipeline) -> None:
    where, trade_id = first_trade(finalized)
    with tampered(finalized, "trades_silver", where, None):
        found = audit(finalized).differences

    (trade,) = (d for d in found if d.pair is Pair.BRONZE_SILVER)
    assert (trade.what, trade.expected, trade.found) == ("trade", "in silver", "none")
    assert trade.trade is not None
    assert trade.trade.trade_id == trade_id
    assert ("trade_count", "6", "7") in {(d.what, d.expected, d.found) for d in found}
    assert {(d.symbol, d.window_start) for d in found} == {("TEST", WINDOW)}


def test_a_row_of_silver_that_nobody_sent_names_its_bar_and_trade(finalized: Pipeline) -> None:
    where = f"{BAR} AND event_time = {WINDOW_MS + 3} AND trade_id = 3"
    finalized.session.execute(
        "INSERT INTO trades_silver (symbol, bucket, event_time, trade_id, price, volume, "
        f"sequence) VALUES ('TEST', {WINDOW_MS}, {WINDOW_MS + 3}, 3, 10.0, 1.0, 0)"
    )
    found = audit(finalized).differences
    finalized.session.execute(f"DELETE FROM trades_silver WHERE {where}")

    (trade,) = (d for d in found if d.pair is Pair.BRONZE_SILVER)
    assert (trade.what, trade.expected, trade.found) == ("trade", "none in bronze", "in silver")
    assert trade.trade is not None
    assert trade.trade.trade_id == 3
    assert ("trade_count", "8", "7") in {(d.what, d.expected, d.found) for d in found}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("high = 10.06", "high"),
        ("volume = 600.0000000001", "volume"),
        ("session = 'pre'", "session"),
        ("last_trade_time = 1710513299998", "last_trade_time"),
    ],
)
def test_a_changed_bar_is_named(finalized: Pipeline, change: str, what: str) -> None:
    where = f"symbol = 'TEST' AND period = '2024-03-01' AND window_start = {WINDOW_MS}"
    with tampered(finalized, "trades_gold_5m", where, change):
        found = audit(finalized).differences

    assert (Pair.SILVER_GOLD, "5m", WINDOW, what) in about(found)
    assert {d.window_start for d in found} <= {WINDOW, HOUR}
    assert {d.symbol for d in found} == {"TEST"}


def test_a_deleted_bar_and_a_changed_hour_are_named(finalized: Pipeline) -> None:
    bar = f"symbol = 'TEST' AND period = '2024-03-01' AND window_start = {WINDOW_MS}"
    with tampered(finalized, "trades_gold_5m", bar, None):
        assert (Pair.SILVER_GOLD, "5m", WINDOW, "bar") in about(audit(finalized).differences)
    ms = WINDOW_MS - 1_800_000
    hour = f"symbol = 'TEST' AND period = '2024-01-01' AND window_start = {ms}"
    with tampered(finalized, "trades_gold_1h", hour, "close = 1.0"):
        assert about(audit(finalized).differences) == {(Pair.GOLD_HOURS, "1h", HOUR, "close")}
    with tampered(finalized, "trades_gold_1h", hour, None):
        assert about(audit(finalized).differences) == {(Pair.GOLD_HOURS, "1h", HOUR, "bar")}


def test_a_deleted_row_of_bronze_is_missed_by_kafka_and_by_silver(finalized: Pipeline) -> None:
    trade = finalized.session.execute(f"SELECT * FROM trades_silver WHERE {BAR}").one()
    (row,) = (
        row for row in finalized.rows("trades_bronze") if is_message_of(row["message"], trade)
    )
    where = (
        f"topic_id = '{finalized.topic_id}' AND kafka_partition = {row['kafka_partition']} "
        f"AND bucket = 0 AND kafka_offset = {row['kafka_offset']}"
    )
    with tampered(finalized, "trades_bronze", where, None):
        found = audit(finalized).differences

    kafka = next(d for d in found if d.pair is Pair.KAFKA_BRONZE)
    assert (kafka.what, kafka.expected, kafka.found) == ("message", "in bronze", "none")
    assert kafka.message is not None
    assert kafka.message.kafka_offset == row["kafka_offset"]
    assert kafka.trade is not None
    assert kafka.trade.trade_id == trade.trade_id
    # The other delivery's copy is still there: silver's row has the time of no copy.
    silver = [d for d in found if d.pair is Pair.BRONZE_SILVER]
    assert {d.trade and d.trade.trade_id for d in silver} == {trade.trade_id}
    assert {d.what for d in silver} == {"received_at"}


def test_other_bytes_in_bronze_or_quarantine_are_found(finalized: Pipeline) -> None:
    row = next(r for r in finalized.rows("trades_quarantine") if r["message"] == BAD[1])
    where = (
        f"topic_id = '{finalized.topic_id}' AND kafka_partition = {row['kafka_partition']} "
        f"AND bucket = 0 AND kafka_offset = {row['kafka_offset']}"
    )
    with tampered(finalized, "trades_bronze", where, "message = 0x00"):
        assert {(d.pair, d.what) for d in audit(finalized).differences} == {
            (Pair.KAFKA_BRONZE, "message"),
            (Pair.BRONZE_SILVER, "quarantined bytes"),
        }
    with tampered(finalized, "trades_quarantine", where, "reason = 'bad_price'"):
        (found,) = audit(finalized).differences
        assert (found.what, found.expected, found.found) == ("reason", "undecodable", "bad_price")
    with tampered(finalized, "trades_quarantine", where, None):
        (found,) = audit(finalized).differences
        assert (found.what, found.expected, found.found) == ("quarantine", "undecodable", "none")


def test_an_audit_of_some_hours_or_symbols_looks_at_no_others(finalized: Pipeline) -> None:
    where, _ = first_trade(finalized)
    with tampered(finalized, "trades_silver", where, "price = 10.5"):
        inside = audit(finalized, Scope.of(WINDOW, WINDOW + timedelta(minutes=5), ["TEST"]))
        from_then = audit(finalized, Scope.of(WINDOW, None, None))
        later = audit(finalized, Scope.of(LAST, LAST + timedelta(minutes=5), ["TEST"]))
        other = audit(finalized, Scope.of(None, None, ["COIN:TESTUSD"]))

    for findings in (inside, from_then):
        assert {d.window_start for d in findings.differences} == {WINDOW}
    assert checked(inside)[Pair.SILVER_GOLD] == 3
    assert checked(inside)[Pair.GOLD_HOURS] == 1
    for findings in (later, other):
        assert findings.differences == []
        assert checked(findings)[Pair.SILVER_GOLD] == 1
        assert checked(findings)[Pair.BRONZE_SILVER] > 0


def test_bars_whose_trades_have_expired_are_named_as_not_auditable(finalized: Pipeline) -> None:
    where, _ = first_trade(finalized)
    ttl = "ALTER TABLE trades_silver WITH default_time_to_live = "
    finalized.session.execute(f"{ttl}3600")
    try:
        with tampered(finalized, "trades_silver", where, None):
            findings = audit(finalized)
    finally:
        finalized.session.execute(f"{ttl}2592000")

    assert findings.differences == []
    bars = findings.unaudited[Pair.SILVER_GOLD, NO_SILVER]
    trades = findings.unaudited[Pair.BRONZE_SILVER, NO_SILVER]
    assert (bars.count, bars.first, bars.last) == (5, WINDOW, LAST)
    assert (trades.count, trades.first, trades.last) == (1, WINDOW, WINDOW)
    assert checked(findings)[Pair.SILVER_GOLD] == 0


def test_the_command_exits_1_when_anything_differs_and_0_when_nothing_does(
    finalized: Pipeline, tmp_path: Path
) -> None:
    target = ("--keyspace", finalized.name, "--topic", finalized.name)
    report = tmp_path / "report.json"
    vendor = tmp_path / "vendor.csv"
    vendor.write_text(
        "window_start,symbol,open,high,low,close,volume\n"
        "2024-03-15T14:30:00Z,TEST,10.00,10.05,9.90,10.02,600\n"
        "2024-03-15T14:35:00Z,TEST,,,,,100\n"
    )
    clean = run("audit", *target, "--against", str(vendor))
    where, trade_id = first_trade(finalized)
    with tampered(finalized, "trades_silver", where, "volume = 11"):
        code, output = fail("audit", *target)
        json_code, _ = fail("audit", *target, "--format", "json", "-o", str(report))
    vendor.write_text(vendor.read_text().replace("9.90", "9.91"))
    vendor_code, vendor_output = fail("audit", *target, "--against", str(vendor))

    assert "vendor → 5m bars" in clean
    left_out = "1 row of the file without prices, left out, 2024-03-15T14:35:00Z"
    assert f"Not auditable, vendor → 5m bars: {left_out}" in clean
    assert (code, json_code, vendor_code) == (1, 1, 1)
    assert "TEST 5m 2024-03-15T14:30:00Z" in output
    assert f"id {trade_id}" in output.replace("\n", " ")
    assert "Error: 5 differences" in output
    written = json.loads(report.read_text())
    assert written["equal"] is False
    assert len(written["differences"]) == 5
    assert "Error: 1 difference:" in vendor_output
    assert "9.91" in vendor_output


def test_an_audit_of_nothing_is_an_error_of_use(finalized: Pipeline, tmp_path: Path) -> None:
    keyspace = ("--keyspace", finalized.name)
    topic = ("--topic", finalized.name)
    other = f"{finalized.name}_fs"
    empty = tmp_path / "vendor.csv"
    empty.write_text("window_start,symbol,open,high,low,close,volume\n")
    for arguments, text in (
        ((*keyspace, "--topic", other), f"holds nothing of topic {other}"),
        ((*keyspace, *topic, "--symbols", "TEST,NONE"), "no trade and no bar of NONE in keyspace"),
        ((*keyspace, *topic, "--symbols", " , "), "names no symbol"),
        ((*keyspace, *topic, "--from", "2024-04-01"), "nothing that can be audited"),
        ((*keyspace, *topic, "--against", str(empty)), "no bar to compare"),
        ((*keyspace, *topic, "--against", str(tmp_path / "none.csv")), "There is no file"),
    ):
        code, output = fail("audit", *arguments)
        assert code == 2
        assert text in " ".join(output.split())


def test_what_is_still_on_its_way_is_no_difference(pipeline: Pipeline) -> None:
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.preview()
    provisional = audit(pipeline)
    pipeline.finalize()
    value = encode_trade(Trade("TEST", 1.0, 1.0, WINDOW_MS, None, 1, WINDOW_MS * 1000, 0, "replay"))
    pipeline.send_messages([("TEST", value)] * 3)
    unread = audit(pipeline)

    assert provisional.differences == []
    assert provisional.counts[Pair.SILVER_GOLD].not_yet == 5
    assert provisional.counts[Pair.SILVER_GOLD].checked == 0
    assert provisional.counts[Pair.GOLD_HOURS].not_yet == 3
    assert unread.differences == []
    assert unread.counts[Pair.KAFKA_BRONZE].not_yet == 3
    assert unread.counts[Pair.SILVER_GOLD].checked == 5


class Interrupted(Progress):
    """Shows nothing, and does something when an audit comes to its windows."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__(disable=True)
        self._act = act

    def add_task(self, description: str, *arguments: Any, **options: Any) -> TaskID:
        if description == "windows":
            self._act()
        return super().add_task(description, *arguments, **options)


def test_what_comes_while_an_audit_runs_is_no_difference(pipeline: Pipeline) -> None:
    now_us = to_millis(datetime.now(timezone.utc)) * 1000
    first = Trade("TEST", 10.0, 1.0, WINDOW_MS, None, 1, now_us, 5, "replay")
    pipeline.send_tape(TAPE)
    pipeline.send_messages([("TEST", encode_trade(first))])
    pipeline.ingest()
    pipeline.finalize()

    def meanwhile() -> None:
        """A copy of lower rank comes, which silver keeps, and a trade for a bar that is final."""
        copy = first._replace(sequence=3, received_at_us=now_us + 7_000)
        late = first._replace(trade_id=2, event_time_ms=WINDOW_MS + 600_000)
        pipeline.send_messages([("TEST", encode_trade(trade)) for trade in (copy, late)])
        pipeline.ingest()

    findings = run_audit(pipeline.settings, Scope(), None, Interrupted(meanwhile))
    assert findings.differences == []
    assert findings.counts[Pair.SILVER_GOLD].not_yet == 2

    # What differs for another reason is found beside it.
    where, trade_id = first_trade(pipeline)
    with tampered(pipeline, "trades_silver", where, "price = 10.5"):
        found = run_audit(pipeline.settings, Scope(), None, Interrupted(meanwhile)).differences
    assert {d.trade and d.trade.trade_id for d in found if d.pair is Pair.BRONZE_SILVER} == {
        trade_id
    }
    pipeline.finalize()
    assert audit(pipeline).differences == []
