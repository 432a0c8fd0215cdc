"""Decode messages anew: the trade that one holds, or the reasons why it is none.

The rules are those of docs/bad-input.md, stated here a second time on purpose: the code that
wrote quarantine and silver is what is audited.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final, NamedTuple

import polars as pl
from fastavro import parse_schema, schemaless_reader

from tapeline.audit.frames import BUCKET_MS, conditions_text, trades_frame
from tapeline.trade import SINGLE_OBJECT_MARKER, TRADE_FINGERPRINT, TRADE_SCHEMA_JSON

_HEADER: Final = SINGLE_OBJECT_MARKER + TRADE_FINGERPRINT
_DECODE_ERRORS: Final = (EOFError, IndexError, OverflowError, ValueError)

_UNDECODABLE: Final = frozenset({"undecodable"})
_UNKNOWN: Final = frozenset({"unknown_schema"})

_YEAR_2000_US: Final = 946_684_800_000_000
_MINUTE_US: Final = 60_000_000
_SYMBOL_CHARACTERS: Final = 128
_PRICE_LIMIT: Final = 1e12
_VOLUME_LIMIT: Final = 1e15


class Message(NamedTuple):
    """A message of Kafka, or a row of bronze: its time by the broker's clock, in ms."""

    kafka_offset: int
    kafka_timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Invalid(NamedTuple):
    """A message that is no valid trade; any of the reasons may stand in quarantine."""

    message: Message
    reasons: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sorted:
    """Messages of one partition: the valid trades, and the others by offset."""

    trades: pl.DataFrame
    invalid: dict[int, Invalid]


def sort_messages(topic_id: str, kafka_partition: int, messages: Iterable[Message]) -> Sorted:
    """Tell valid trades from what is none."""
    rows = []
    invalid = {}
    for message in messages:
        offset, timestamp_ms, _, value = message
        record = decode(value)
        if isinstance(record, frozenset):
            invalid[offset] = Invalid(message, record)
            continue
        symbol, price, volume, time_ms, conditions, trade_id, received_us, rank, source = record
        reasons = reasons_against(symbol, price, volume, time_ms, received_us, timestamp_ms)
        if reasons:
            invalid[offset] = Invalid(message, frozenset(reasons))
            continue
        rows.append(
            (
                *(symbol, time_ms - time_ms % BUCKET_MS, time_ms, trade_id, price, volume),
                *(conditions_text(conditions), rank, received_us // 1000, source),
                *(topic_id, kafka_partition, offset),
            )
        )
    return Sorted(trades_frame(rows), invalid)


def decode(value: bytes | None) -> tuple[Any, ...] | frozenset[str]:
    """Return a message's fields in the order of the Avro schema, or why there can be none."""
    if value is None or not value.startswith(SINGLE_OBJECT_MARKER):
        return _UNDECODABLE
    if not value.startswith(_HEADER):
        # Cut short within the fingerprint it is both: nobody can say which schema it had.
        return _UNKNOWN if len(value) >= len(_HEADER) else _UNKNOWN | _UNDECODABLE
    body = BytesIO(value)
    body.seek(len(_HEADER))
    try:
        record: Any = schemaless_reader(body, _SCHEMA, None, handle_unicode_errors="replace")
    except _DECODE_ERRORS:
        return _UNDECODABLE
    return tuple(record.values())


def reasons_against(
    symbol: str,
    price: float,
    volume: float,
    event_time_ms: int,
    received_at_us: int,
    kafka_timestamp_ms: int,
) -> list[str]:
    """Return every reason why a decoded trade is not valid; none when it is."""
    # The broker's clock bounds the producer's, which travels in the message.
    latest_us = min(received_at_us, kafka_timestamp_ms * 1000) + _MINUTE_US
    # A comparison with NaN is false, so that it fails every range.
    checks = (
        ("empty_symbol", 0 < len(symbol) <= _SYMBOL_CHARACTERS),
        ("bad_time", _YEAR_2000_US <= event_time_ms * 1000 <= latest_us),
        ("bad_price", 0 < price < _PRICE_LIMIT),
        ("bad_volume", 0 <= volume < _VOLUME_LIMIT),
    )
    return [reason for reason, is_right in checks if not is_right]


def _without_logical_types(schema_json: str) -> Any:
    """Return the schema with plain numbers in place of times: they are compared as such."""
    schema = json.loads(schema_json)
    for field in schema["fields"]:
        if isinstance(field["type"], dict) and "logicalType" in field["type"]:
            field["type"] = field["type"]["type"]
    return parse_schema(schema)


_SCHEMA: Final = _without_logical_types(TRADE_SCHEMA_JSON)
