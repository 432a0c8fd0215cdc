"""Decode messages anew: the trade that one holds, or the reasons why it is none.

The rules are those of docs/bad-input.md, stated here a second time on purpose: the code that
wrote quarantine and silver is what is audited.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final, NamedTuple

import polars as pl
from fastavro import parse_schema, schemaless_reader

from tapeline.audit.frames import BUCKET_MS, TRADES, conditions_texts
from tapeline.trade import SINGLE_OBJECT_MARKER, TRADE_FINGERPRINT, TRADE_SCHEMA_JSON

_HEADER: Final = SINGLE_OBJECT_MARKER + TRADE_FINGERPRINT
_DECODE_ERRORS: Final = (EOFError, IndexError, OverflowError, ValueError)
_UNDECODABLE: Final = frozenset({"undecodable"})
_UNKNOWN: Final = frozenset({"unknown_schema"})

_YEAR_2000_MS: Final = 946_684_800_000
_MOST_MS: Final = ((1 << 63) - 1) // 1000
_MINUTE_US: Final = 60_000_000
_SYMBOL_CHARACTERS: Final = 128
_PRICE_LIMIT: Final = 1e12
_VOLUME_LIMIT: Final = 1e15

RawMessage = tuple[int, int, bytes | None, bytes | None]
"""A `Message` without names: there are many, and few need a close look."""


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


def sort_messages(topic_id: str, kafka_partition: int, messages: Sequence[RawMessage]) -> Sorted:
    """Tell valid trades from what is none."""
    invalid = {}
    decoded, records = [], []
    for message in messages:
        record = _decode(message[3])
        if isinstance(record, frozenset):
            invalid[message[0]] = Invalid(Message(*message), record)
        else:
            decoded.append(message)
            records.append(record)
    rules = _rules()
    trades = _frame(topic_id, kafka_partition, decoded, records)
    is_valid = trades.select(pl.all_horizontal(*rules.values())).to_series()
    if not is_valid.all():
        numbered = trades.with_row_index().filter(~is_valid).select("index", **rules)
        for index, *is_right in numbered.rows():
            reasons = {name for name, right in zip(rules, is_right, strict=True) if not right}
            message = Message(*decoded[index])
            invalid[message.kafka_offset] = Invalid(message, frozenset(reasons))
    return Sorted(trades.filter(is_valid).select(*TRADES), invalid)


def _decode(value: bytes | None) -> tuple[Any, ...] | frozenset[str]:
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


def _frame(
    topic_id: str,
    kafka_partition: int,
    messages: Sequence[RawMessage],
    records: Sequence[tuple[Any, ...]],
) -> pl.DataFrame:
    """Return decoded messages with the columns of TRADES, and two more that the rules need."""
    columns = list(zip(*records, strict=True)) or [()] * len(_FIELDS)
    offsets, timestamps = zip(*(m[:2] for m in messages), strict=True) if messages else ((), ())
    fields: dict[str, Any] = dict(zip(_FIELDS, columns, strict=True))
    fields["conditions"] = conditions_texts(fields["conditions"])
    kinds = {**TRADES, "received_us": pl.Int64()}
    return pl.DataFrame(
        [pl.Series(name, values, kinds[name]) for name, values in fields.items()]
        + [pl.Series("kafka_offset", offsets, pl.Int64)]
        + [pl.Series("kafka_timestamp_ms", timestamps, pl.Int64)]
    ).with_columns(
        bucket_ms=pl.col("event_time_ms") - pl.col("event_time_ms") % BUCKET_MS,
        received_at_ms=pl.col("received_us") // 1000,
        topic_id=pl.lit(topic_id),
        kafka_partition=pl.lit(kafka_partition, pl.Int64),
    )


def _rules() -> dict[str, pl.Expr]:
    """Return what is true of a valid trade, by the reason that stands when it is not.

    Polars orders NaN above every number, so that it fails the upper limits.
    """
    price, volume, time_ms = pl.col("price"), pl.col("volume"), pl.col("event_time_ms")
    # The broker's clock bounds the producer's, which travels in the message.
    receipt_us = pl.min_horizontal("received_us", pl.col("kafka_timestamp_ms") * 1000)
    latest_ms = (receipt_us + _MINUTE_US) // 1000
    return {
        # A number too large for its field: the rank has 32 bits, and times are counted in µs.
        "undecodable": time_ms.is_between(-_MOST_MS, _MOST_MS)
        & (pl.col("sequence").cast(pl.Int32, strict=False).is_not_null()),
        "empty_symbol": pl.col("symbol").str.len_chars().is_between(1, _SYMBOL_CHARACTERS),
        "bad_time": (time_ms >= _YEAR_2000_MS) & (time_ms <= latest_ms),
        "bad_price": (price > 0) & (price < _PRICE_LIMIT),
        "bad_volume": (volume >= 0) & (volume < _VOLUME_LIMIT),
    }


def _without_logical_types(schema_json: str) -> dict[str, Any]:
    """Return the schema with plain numbers in place of times: they are compared as such."""
    schema: dict[str, Any] = json.loads(schema_json)
    for field in schema["fields"]:
        if isinstance(field["type"], dict) and "logicalType" in field["type"]:
            field["type"] = field["type"]["type"]
    return schema


_PLAIN: Final = _without_logical_types(TRADE_SCHEMA_JSON)
_SCHEMA: Final = parse_schema(_PLAIN)
_NAMES: Final = {"event_time": "event_time_ms", "received_at": "received_us"}
_FIELDS: Final = tuple(_NAMES.get(f["name"], f["name"]) for f in _PLAIN["fields"])
"""The fields of a record in the order of the schema, with their units."""
