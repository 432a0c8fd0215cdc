"""The trade as it travels, and its Avro form on the wire.

The bytes are Avro's single-object encoding: the marker `C3 01`, the schema's 64-bit
fingerprint (little-endian), then the record. A reader picks the writer's schema by the
fingerprint, so that no registry server is needed.
"""

from __future__ import annotations

import json
from functools import lru_cache
from struct import Struct
from typing import Any, Final, NamedTuple

from fastavro import parse_schema
from fastavro.schema import fingerprint, to_parsing_canonical_form

from tapeline.resources import schema_text

SINGLE_OBJECT_MARKER: Final = b"\xc3\x01"
TRADE_SCHEMA_JSON: Final = schema_text("avro", "trade.avsc")

_REPEATED: Final = 4096
"""How many of the symbols and lists of conditions seen last are kept encoded."""
_TWO_DOUBLES: Final = Struct("<dd")
_LONG_LIMIT: Final = 1 << 63
_SEVEN_BITS: Final = 0x7F
_MORE_FOLLOWS: Final = 0x80


def schema_fingerprint(schema: Any) -> bytes:
    """Return the CRC-64-AVRO fingerprint of a parsed schema, in the byte order of the wire."""
    # fastavro prints the value's bytes in little-endian order already.
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


TRADE_FINGERPRINT: Final = schema_fingerprint(parse_schema(json.loads(TRADE_SCHEMA_JSON)))
_HEADER: Final = SINGLE_OBJECT_MARKER + TRADE_FINGERPRINT


class Trade(NamedTuple):
    """One trade with its identity.

    `event_time_ms` and `received_at_us` count from the Unix epoch, UTC. `trade_id` is equal
    for redeliveries of one trade and distinct for twins; `sequence` is its rank among the
    trades of its symbol and millisecond.
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


def encode_trade(trade: Trade) -> bytes:
    """Encode a trade for Kafka: 10 bytes of header and the Avro record.

    Written out for this one schema, since a general encoder costs several times as much; a test
    holds it to fastavro's bytes.

    Raises:
        OverflowError: a whole number has more than 64 bits.
    """
    symbol, price, volume, event_time_ms, conditions, trade_id, received_at_us, rank, source = trade
    return b"".join(
        (
            _header_and_symbol(symbol),
            _TWO_DOUBLES.pack(price, volume),
            _long(event_time_ms),
            _conditions(conditions),
            _long(trade_id),
            _repeated_long(received_at_us),
            _repeated_long(rank),
            _repeated_string(source),
        )
    )


def _long(number: int) -> bytes:
    """Encode as Avro does: zigzag, then seven bits a byte, the lowest first."""
    if not -_LONG_LIMIT <= number < _LONG_LIMIT:
        message = f"{number} has more than 64 bits."
        raise OverflowError(message)
    rest = number << 1 if number >= 0 else ~(number << 1)
    encoded = bytearray()
    while rest > _SEVEN_BITS:
        encoded.append(rest & _SEVEN_BITS | _MORE_FOLLOWS)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _string(text: str) -> bytes:
    data = text.encode()
    return _long(len(data)) + data


@lru_cache(_REPEATED)
def _header_and_symbol(symbol: str) -> bytes:
    return _HEADER + _string(symbol)


@lru_cache(_REPEATED)
def _conditions(conditions: tuple[str, ...] | None) -> bytes:
    """Encode the union: branch 0 is null, branch 1 a list, in one block if it has any items."""
    if conditions is None:
        return _long(0)
    block = b"".join((_long(len(conditions)), *map(_string, conditions)) if conditions else ())
    return _long(1) + block + _long(0)


_repeated_long: Final = lru_cache(_REPEATED)(_long)
_repeated_string: Final = lru_cache(_REPEATED)(_string)
