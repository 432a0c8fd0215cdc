"""The trade as it travels, and its Avro form on the wire.

The bytes are Avro's single-object encoding: the marker `C3 01`, the schema's 64-bit
fingerprint (little-endian), then the record. A reader picks the writer's schema by the
fingerprint, so that no registry server is needed.
"""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any, Final, NamedTuple

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form

from tapeline.model.resources import schema_text

SINGLE_OBJECT_MARKER: Final = b"\xc3\x01"
ORDER_RANK_BITS: Final = 16
ORDER_ID_BITS: Final = 20
"""Trades of one symbol and millisecond go by rank (saturating), then by the low bits of the id."""
TRADE_SCHEMA_JSON: Final = schema_text("avro", "trade.avsc")

_SCHEMA: Final = parse_schema(json.loads(TRADE_SCHEMA_JSON))


def schema_fingerprint(schema: Any) -> bytes:
    """Return the CRC-64-AVRO fingerprint of a parsed schema, in the byte order of the wire."""
    # fastavro prints the value's bytes in little-endian order already.
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


TRADE_FINGERPRINT: Final = schema_fingerprint(_SCHEMA)
TRADE_HEADER: Final = SINGLE_OBJECT_MARKER + TRADE_FINGERPRINT
"""With which every message of the schema begins."""

_DAY_MS: Final = 86_400_000
_RANK_MAX: Final = (1 << ORDER_RANK_BITS) - 1
_ID_MASK: Final = (1 << ORDER_ID_BITS) - 1


class Trade(NamedTuple):
    """One trade with its identity.

    `event_time_ms` and `received_at_us` count from the Unix epoch, UTC. `trade_id` is equal
    for redeliveries of one trade and distinct for twins; `sequence` is its rank among the
    trades of its symbol and millisecond, or, where the id is the exchange's number, what stands
    above the low bits of that: rank and low bits then go by the number.
    """

    symbol: str
    price: float
    volume: float
    event_time_ms: int
    conditions: tuple[str, ...] | None
    trade_id: int
    received_at_us: int
    sequence: int
    source: str


def order_key(trade: Trade) -> int:
    """Return the number that orders trades: ms of the day, rank (saturating), low bits of the id.

    The same as `consumer/bar_columns.order_key`.
    """
    rank = min(trade.sequence, _RANK_MAX)
    millis = trade.event_time_ms % _DAY_MS
    place = (millis << ORDER_RANK_BITS) + rank
    return (place << ORDER_ID_BITS) + (trade.trade_id & _ID_MASK)


def encode_trade(trade: Trade) -> bytes:
    """Encode a trade for Kafka: 10 bytes of header and the Avro record.

    Raises:
        OverflowError: a whole number has more than 64 bits.
    """
    symbol, price, volume, event_time_ms, conditions, trade_id, received_at_us, rank, source = trade
    record = {
        "symbol": symbol,
        "price": price,
        "volume": volume,
        "event_time": event_time_ms,
        # A tuple would be taken for a branch of the union and its value.
        "conditions": None if conditions is None else list(conditions),
        "trade_id": trade_id,
        "received_at": received_at_us,
        "sequence": rank,
        "source": source,
    }
    buffer = BytesIO()
    buffer.write(TRADE_HEADER)
    schemaless_writer(buffer, _SCHEMA, record)
    return buffer.getvalue()


def fields_of(value: bytes) -> tuple[Any, ...] | None:
    """Return the fields of a message in the order of the schema, None where it does not decode.

    Times are whole numbers: `event_time` in ms, `received_at` in µs since the epoch. Conditions are
    a list or None.

    Args:
        value: begins with `TRADE_HEADER`.
    """
    body = BytesIO(value)
    body.seek(len(TRADE_HEADER))
    try:
        head: Any = schemaless_reader(body, _HEAD, None, handle_unicode_errors="replace")
        *first, branch = head.values()
        if branch < 0:
            return None
        tail: Any = schemaless_reader(body, _TAILS[branch], None, handle_unicode_errors="replace")
    except (EOFError, IndexError, OverflowError, ValueError):
        return None
    return (*first, *tail.values())


def _parts(schema_json: str) -> tuple[Any, tuple[Any, ...]]:
    """Return the schema up to the branch of its union, and what follows each of the branches.

    fastavro takes -1 for the last branch, which is none to other readers.
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
