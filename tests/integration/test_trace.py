"""One trade followed through real services: its messages, its row, its bars; or why it is none."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
import typer
from confluent_kafka import Producer

from tapeline.cli.options import TableOrJson
from tapeline.cli.trace import moment, trace
from tapeline.model.errors import UsageError
from tapeline.model.trade import Trade, encode_trade
from tests.pipeline import BOTH, Pipeline

HOUR = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
AT = HOUR + timedelta(minutes=31, seconds=7, milliseconds=123)
LONG_BEFORE = timedelta(minutes=9)
AT_MS = int(HOUR.timestamp()) * 1000 + 31 * 60_000 + 7123


def message(trade_id: int, after_ms: int = 0, symbol: str = "AAPL") -> bytes:
    at_ms = AT_MS + after_ms
    return encode_trade(
        Trade(symbol, 189.5, 100.0, at_ms, ("1",), trade_id, at_ms * 1000 + 18_000, 0, "finnhub")
    )


def said(pipeline: Pipeline, capfd: pytest.CaptureFixture[str], when: str, **options: int) -> dict:
    capfd.readouterr()
    trace(
        "AAPL",
        when,
        keyspace=pipeline.name,
        topic=pipeline.name,
        output_format=TableOrJson.JSON,
        **options,
    )
    return json.loads(capfd.readouterr().out)


def written(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03}"


def test_a_trade_that_came_twice_is_followed_to_its_final_bars(
    pipeline: Pipeline, capfd: pytest.CaptureFixture[str]
) -> None:
    others = [("AAPL", message(7, 1000)), ("MSFT", message(5, 0, "MSFT"))]
    pipeline.send_messages([*others, ("AAPL", message(-5))])
    pipeline.send_messages([("AAPL", message(-5))], partition=1)
    pipeline.ingest(BOTH)

    when = written(AT)
    (found,) = said(pipeline, capfd, when)["trades"]
    assert (found["trade_id"], found["price"], found["volume"]) == (-5, 189.5, 100.0)
    assert found["event_time"] == f"{when}000Z"
    assert datetime.fromisoformat(found["received_at"]) - AT == timedelta(milliseconds=18)
    assert {copy["place"] for copy in found["bronze"]} == {
        f"{pipeline.topic_id}/0/2",
        f"{pipeline.topic_id}/1/0",
    }
    assert found["is_due"]

    for offset in (0, 1):
        pipeline.send_messages([("AAPL", message(9, 3 * 3_600_000 - 2_000_000))], partition=offset)
    pipeline.ingest(BOTH)
    pipeline.finalize()
    (found,) = said(pipeline, capfd, when)["trades"]
    five, hour = found["bars"]
    start = HOUR + timedelta(minutes=30)
    assert (five["interval"], five["window_start"]) == ("5m", f"{start:%Y-%m-%dT%H:%M:%S}Z")
    assert (five["state"], five["revision"], five["trade_count"]) == ("final", 1, 2)
    assert (hour["interval"], hour["state"], hour["trade_count"]) == ("1h", "final", 2)
    assert not found["is_due"]

    day = written(AT)[:10]
    assert [t["trade_id"] for t in said(pipeline, capfd, day, trade_id=7)["trades"]] == [7]
    trace("AAPL", day, limit=1, keyspace=pipeline.name, topic=pipeline.name)
    text = capfd.readouterr().out
    assert f"AAPL {when}Z, id -5\n" in text
    assert "received  " in text
    assert "from finnhub, 0.018 s after it was made" in text
    assert "bronze    has 2 of its messages" in text
    assert f"5m bar    of {start:%Y-%m-%dT%H:%M:%S}Z: final, 2 trades, close 189.5" in text
    assert text.endswith("more trades of that time: give a finer time, --id or --limit.\n")


def test_a_trade_that_was_refused_is_named_with_its_reason(
    pipeline: Pipeline, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline.send_messages([("AAPL", message(1))])
    pipeline.ingest(BOTH)
    frame = {"type": "trade", "data": [{"s": "AAPL", "p": -1, "v": 1, "t": AT_MS, "c": None}]}
    received_us = AT_MS * 1000 + 9_000_000
    producer = Producer({"bootstrap.servers": pipeline.endpoints.bootstrap_servers})
    for name, after_us in (("AAPL", 0), ("MSFT", 0), ("AAPL", 3_600_000_000)):
        frame["data"] = [{**frame["data"][0], "s": name}]
        headers = {
            "reason": "bad_price",
            "rejects": '[[0,"bad_price"]]',
            "topic": pipeline.name,
            "received_at_us": str(received_us + after_us),
        }
        letters = pipeline.settings.kafka.dead_letter_topic
        producer.produce(letters, json.dumps(frame).encode(), "test", headers=headers)
    assert producer.flush(120) == 0

    capfd.readouterr()
    with pytest.raises(typer.Exit) as ended:
        said(pipeline, capfd, written(AT + timedelta(seconds=2)))
    assert ended.value.exit_code == 1
    found = json.loads(capfd.readouterr().out)
    assert found["trades"] == []
    assert [letter["reasons"] for letter in found["refused"]] == [["bad_price"]]

    with pytest.raises(typer.Exit):
        trace("AAPL", written(AT - LONG_BEFORE), keyspace=pipeline.name, topic=pipeline.name)
    assert "Nothing was refused soon after, either" in capfd.readouterr().out


def test_a_symbol_of_which_all_was_refused_is_no_unknown_one(
    pipeline: Pipeline, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline.send_messages([("AAPL", message(1, symbol="AAPL")), ("HALT", b"not avro")])
    pipeline.ingest(BOTH)

    today = written(datetime.now(timezone.utc))[:10]
    with pytest.raises(typer.Exit) as ended:
        trace("HALT", today, keyspace=pipeline.name, topic=pipeline.name)
    assert ended.value.exit_code == 1
    text = capfd.readouterr().out
    assert f"Silver has no such trade of HALT at {today}.\n  refused at {today}" in text
    assert text.endswith("`tapeline dead-letters show` shows what they hold.\n")

    with pytest.raises(UsageError, match="no trade and no bar of NOBODY"):
        trace("NOBODY", "2020-11-20", keyspace=pipeline.name, topic=pipeline.name)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("2026-11-20", timedelta(days=1)),
        ("2026-11-20T14:31", timedelta(minutes=1)),
        ("2026-11-20T14:31:07Z", timedelta(seconds=1)),
        ("2026-11-20T14:31:07.123", timedelta(milliseconds=1)),
    ],
)
def test_a_time_names_as_much_as_it_says(text: str, length: timedelta) -> None:
    start, end = moment(text)
    assert written(start).startswith(text.removesuffix("Z"))
    assert end - start == length


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="such as 2026-11-20T14:31:07"):
        moment("yesterday")
