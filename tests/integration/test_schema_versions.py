"""Trades of the schema before and the one after today's, mixed with today's in one topic.

Neither may be read by today's schema: what each of them says lies elsewhere in the bytes. What must
come of today's is worked out in plain Python.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from io import BytesIO
from typing import Any, Final

from fastavro import parse_schema, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form

from bench.check import check_tables
from bench.load import LoadTrade, SeededLoad
from bench.truth import Truth
from tapeline.model.conditions import SIP_ODDLOT
from tapeline.model.times import now_us
from tests.commands import ROOT, run
from tests.pipeline import Pipeline
from tests.statuses import send_status

COUNT: Final = 5_000
SHARE_OF_TODAY: Final = 0.6
_TODAY: Final[dict[str, Any]] = json.loads((ROOT / "schemas/avro/trade.avsc").read_text())
_FIELDS: Final[list[dict[str, Any]]] = _TODAY["fields"]
VERSIONS: Final = {
    "previous": {**_TODAY, "fields": [f for f in _FIELDS if f["name"] != "sequence"]},
    "today": _TODAY,
    "next": {
        **_TODAY,
        "fields": [
            {"name": "venue", "type": ["null", "string"], "default": None},
            *_FIELDS,
        ],
    },
}
_PARSED: Final[dict[str, Any]] = {
    version: parse_schema(schema, _write_hint=False) for version, schema in VERSIONS.items()
}


def encoded(trade: LoadTrade, version: str, received_us: int) -> bytes:
    """Encode a trade as a producer of a version does: marker, fingerprint, record."""
    record = {
        "symbol": trade.symbol,
        "price": trade.price,
        "volume": trade.volume,
        "event_time": trade.event_time_ms,
        "conditions": None if trade.conditions is None else list(trade.conditions),
        "trade_id": trade.trade_id,
        "received_at": received_us,
        "sequence": trade.sequence,
        "source": "test",
    }
    schema = _PARSED[version]
    mark = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
    body = BytesIO()
    body.write(b"\xc3\x01" + mark)
    schemaless_writer(body, schema, record)
    return body.getvalue()


def test_every_trade_of_todays_schema_is_in_its_bar_and_every_other_in_quarantine(
    pipeline: Pipeline,
) -> None:
    chosen = random.Random(3)  # noqa: S311 - a choice, not a secret
    truth = Truth()
    sent: dict[int, list[tuple[str, bytes, str]]] = {0: [], 1: []}
    started_us = now_us()
    for number, trade in enumerate(SeededLoad(COUNT, 5, 3).trades()):
        is_today = chosen.random() < SHARE_OF_TODAY
        version = "today" if is_today else chosen.choice(["previous", "next"])
        if is_today:
            truth.take(trade)
        partition = sum(trade.symbol.encode()) % 2
        value = encoded(trade, version, started_us + number)
        sent[partition].append((trade.symbol, value, version))
    truth.messages = COUNT
    for partition, messages in sent.items():
        pipeline.send_messages([(symbol, value) for symbol, value, _ in messages], partition)
    offsets = {partition: len(messages) - 1 for partition, messages in sent.items()}
    send_status(
        pipeline,
        "test",
        connected=False,
        last_offsets=offsets,
        newest_receipt_us=now_us(),
        end_of_tape=True,
        trades=COUNT,
    )

    use_policy_of_truth(pipeline)
    pipeline.ingest()
    while not pipeline.finalize().is_finished:
        pass

    others = {
        (partition, offset): value
        for partition, messages in sent.items()
        for offset, (_, value, version) in enumerate(messages)
        if version != "today"
    }
    rows = pipeline.rows("trades_quarantine")
    found = {(row["kafka_partition"], row["kafka_offset"]): row["message"] for row in rows}
    assert Counter(row["reason"] for row in rows) == {"unknown_schema": len(others)}
    assert found == others
    versions = Counter(version for messages in sent.values() for _, _, version in messages)
    assert min(versions.values()) > COUNT // 10
    check_tables(pipeline.client.session, pipeline.name, truth, offsets, pipeline.topic_id)
    run("audit", "--keyspace", pipeline.name, "--topic", pipeline.name)


def use_policy_of_truth(pipeline: Pipeline) -> None:
    """Let the trades set what `bench.truth` lets them set."""
    stream = pipeline.settings.stream.model_copy(update={"policy": SIP_ODDLOT})
    pipeline.settings = pipeline.settings.model_copy(update={"stream": stream})
