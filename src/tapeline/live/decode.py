"""Decode messages of the topic: valid trades, by the rules of `parse_trade_from_avro`."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any, Final

from fastavro import parse_schema, schemaless_reader

from tapeline.producer.validation import (
    BROKER_MOST_OFF_MS,
    EARLIEST_EVENT_TIME_MS,
    LATEST_AHEAD_MS,
    MAX_SYMBOL_CHARACTERS,
    PRICE_LIMIT,
    VOLUME_LIMIT,
)
from tapeline.trade import SINGLE_OBJECT_MARKER, TRADE_FINGERPRINT, TRADE_SCHEMA_JSON, Trade

_HEADER: Final = SINGLE_OBJECT_MARKER + TRADE_FINGERPRINT
_ERRORS: Final = (EOFError, IndexError, OverflowError, ValueError)
_RANK_LIMIT: Final = 1 << 31


def _parts(schema_json: str) -> tuple[Any, tuple[Any, ...]]:
    """Return the schema up to the branch of the union, and what follows each of its branches.

    fastavro would take -1 for the last branch. Without logical types: times are compared as
    numbers.
    """
    fields: list[dict[str, Any]] = json.loads(schema_json)["fields"]
    for field in fields:
        if isinstance(field["type"], dict) and "logicalType" in field["type"]:
            field["type"] = field["type"]["type"]
    at = [field["name"] for field in fields].index("conditions")

    def record(fields: list[dict[str, Any]]) -> Any:
        return parse_schema({"type": "record", "name": "Part", "fields": fields})

    tails = [
        record([{"name": "conditions", "type": branch}, *fields[at + 1 :]])
        for branch in fields[at]["type"]
    ]
    return record([*fields[:at], {"name": "branch", "type": "long"}]), tuple(tails)


_HEAD, _TAILS = _parts(TRADE_SCHEMA_JSON)


def decode_trade(value: bytes | None, kafka_timestamp_ms: int) -> Trade | None:
    """Return the trade that a message holds, None when it is no valid one.

    Args:
        value: the message.
        kafka_timestamp_ms: when the broker received it.
    """
    if value is None or not value.startswith(_HEADER):
        return None
    body = BytesIO(value)
    body.seek(len(_HEADER))
    try:
        head: Any = schemaless_reader(body, _HEAD, None, handle_unicode_errors="replace")
        if head["branch"] < 0:
            return None
        tail = _TAILS[head["branch"]]
        record: Any = schemaless_reader(body, tail, None, handle_unicode_errors="replace")
    except _ERRORS:
        return None
    conditions = record["conditions"]
    trade = Trade(
        head["symbol"],
        head["price"],
        head["volume"],
        head["event_time"],
        None if conditions is None else tuple(conditions),
        record["trade_id"],
        record["received_at"],
        record["sequence"],
        record["source"],
    )
    return trade if _is_valid(trade, kafka_timestamp_ms) else None


def _is_valid(trade: Trade, kafka_timestamp_ms: int) -> bool:
    # The broker's clock may be wrong, and bounds only roughly what travels in the message. A
    # comparison with NaN is false, so that it fails every range.
    receipt_us = min(trade.received_at_us, (kafka_timestamp_ms + BROKER_MOST_OFF_MS) * 1000)
    latest_us = receipt_us + LATEST_AHEAD_MS * 1000
    return (
        0 < len(trade.symbol) <= MAX_SYMBOL_CHARACTERS
        and trade.event_time_ms >= EARLIEST_EVENT_TIME_MS
        and trade.event_time_ms * 1000 <= latest_us
        and 0 < trade.price < PRICE_LIMIT
        and 0 <= trade.volume < VOLUME_LIMIT
        # A rank that is no 32-bit number does not decode elsewhere.
        and -_RANK_LIMIT <= trade.sequence < _RANK_LIMIT
    )
