"""Decode messages again: the trade that one holds, or the reasons why it is none.

The rules are those of docs/bad-input.md, stated here a second time on purpose: the code that
wrote quarantine and silver is what is audited.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pyarrow as pa

from tapeline.audit.tables import COPIES, conditions_texts, query
from tapeline.kafka.reader import RawMessage
from tapeline.model.trade import SINGLE_OBJECT_MARKER, TRADE_HEADER, TRADE_SCHEMA_JSON, fields_of
from tapeline.model.venues import FUTURES

_UNDECODABLE: Final = frozenset({"undecodable"})
_UNKNOWN: Final = frozenset({"unknown_schema"})


class Message(NamedTuple):
    """A `RawMessage` with names: one of Kafka, or a row of bronze."""

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

    trades: pa.Table
    invalid: dict[int, Invalid]


def sort_messages(topic_id: str, kafka_partition: int, messages: Sequence[RawMessage]) -> Sorted:
    """Tell valid trades from what is none."""
    invalid = {}
    decoded: dict[int, RawMessage] = {}
    records = []
    for message in messages:
        record = _decode(message[3])
        if isinstance(record, frozenset):
            invalid[message[0]] = Invalid(Message(*message), record)
        else:
            decoded[message[0]] = message
            records.append(record)
    place = topic_id, kafka_partition
    judged = query(_JUDGED, records=_table(place, decoded.values(), records))
    for bad in query(_BAD, judged=judged).to_pylist():
        message = Message(*decoded[bad["kafka_offset"]])
        invalid[message.kafka_offset] = Invalid(message, frozenset(bad["reasons"]))
    return Sorted(query(_GOOD, judged=judged), invalid)


def _decode(value: bytes | None) -> tuple[Any, ...] | frozenset[str]:
    """Return a message's fields in the order of the Avro schema, or why there can be none."""
    if value is None or not value.startswith(SINGLE_OBJECT_MARKER):
        return _UNDECODABLE
    if not value.startswith(TRADE_HEADER):
        # Cut short within the fingerprint it is both: nobody can say which schema it had.
        return _UNKNOWN if len(value) >= len(TRADE_HEADER) else _UNKNOWN | _UNDECODABLE
    fields = fields_of(value)
    return _UNDECODABLE if fields is None else fields


def _table(
    place: tuple[str, int], messages: Collection[RawMessage], records: Sequence[tuple[Any, ...]]
) -> pa.Table:
    """Return decoded messages, with the topic's id and partition, their offsets and times."""
    columns: list[Any] = list(zip(*records, strict=True)) or [()] * len(_FIELDS)
    fields = dict(zip(_FIELDS, columns, strict=True))
    fields["conditions"] = conditions_texts(fields["conditions"])
    fields["topic_id"], fields["kafka_partition"] = ([part] * len(messages) for part in place)
    fields["kafka_offset"] = [message[0] for message in messages]
    fields["kafka_timestamp_ms"] = [message[1] for message in messages]
    return pa.table({name: pa.array(fields[name], kind) for name, kind in _KINDS.items()})


_NAMES: Final = {"event_time": "event_time_ms", "received_at": "received_us"}
_FIELDS: Final = tuple(
    _NAMES.get(f["name"], f["name"]) for f in json.loads(TRADE_SCHEMA_JSON)["fields"]
)
"""The fields of a record in the order of the schema, with their units."""

_KINDS: Final = {
    **{name: pa.int64() for name in (*_FIELDS, "kafka_timestamp_ms")},
    **{field.name: field.type for field in COPIES if not field.name.endswith("_ms")},
}
_JUDGED: Final = """
    SELECT
        symbol,
        event_time_ms - event_time_ms % 300000 AS bucket_ms,
        event_time_ms, trade_id, price, volume, conditions, sequence,
        received_us // 1000 AS received_at_ms,
        source,
        topic_id, kafka_partition, kafka_offset,
        -- A number too large for its field: times are counted in µs, the rank has 32 bits.
        event_time_ms BETWEEN -9223372036854775 AND 9223372036854775
            AND sequence BETWEEN -2147483648 AND 2147483647 AS is_decodable,
        length(symbol) BETWEEN 1 AND 128 AS is_named,
        -- From the year 2000 to a minute after the receipt. The broker's clock, a day of error
        -- granted, bounds the producer's, which travels in the message.
        event_time_ms BETWEEN 946684800000
            AND (least(received_us, (kafka_timestamp_ms + 86400000) * 1000) + 60000000) // 1000
            AS is_timely,
        -- NaN is above every number.
        price < 1e11
            AND (price > 0 OR (price > -1e11 AND regexp_full_match(symbol, '{futures}')))
            AS is_priced,
        volume >= 0 AND volume < 1e13 AS is_sized,
        is_decodable AND is_named AND is_timely AND is_priced AND is_sized AS is_valid
    FROM records
""".replace("{futures}", FUTURES)
_GOOD: Final = """
    SELECT COLUMNS(lambda name: NOT starts_with(name, 'is_')) FROM judged WHERE is_valid
"""
_BAD: Final = """
    SELECT kafka_offset, list_filter([
        if(is_decodable, NULL, 'undecodable'),
        if(is_named, NULL, 'empty_symbol'),
        if(is_timely, NULL, 'bad_time'),
        if(is_priced, NULL, 'bad_price'),
        if(is_sized, NULL, 'bad_volume')
    ], lambda reason: reason IS NOT NULL) AS reasons
    FROM judged WHERE NOT is_valid
"""
