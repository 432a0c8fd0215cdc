"""The wire form of a trade, checked against the Avro specification."""

from __future__ import annotations

import json
import struct
from datetime import datetime
from io import BytesIO
from pathlib import Path

import fastavro
import pytest

from tapeline.model.trade import (
    SINGLE_OBJECT_MARKER,
    TRADE_FINGERPRINT,
    TRADE_SCHEMA_JSON,
    Trade,
    encode_trade,
)

SCHEMA_FILE = Path(__file__).parents[2] / "schemas" / "avro" / "trade.avsc"

CANONICAL_FORM = (
    '{"name":"tapeline.Trade","type":"record","fields":['
    '{"name":"symbol","type":"string"},'
    '{"name":"price","type":"double"},'
    '{"name":"volume","type":"double"},'
    '{"name":"event_time","type":"long"},'
    '{"name":"conditions","type":["null",{"type":"array","items":"string"}]},'
    '{"name":"trade_id","type":"long"},'
    '{"name":"received_at","type":"long"},'
    '{"name":"sequence","type":"int"},'
    '{"name":"source","type":"string"}]}'
)

TRADE = Trade(
    symbol="BINANCE:BTCUSDT",
    price=84_900.01,
    volume=0.00071,
    event_time_ms=1_763_649_000_123,
    conditions=("1", "12"),
    trade_id=-4_611_686_018_427_387_905,
    received_at_us=1_763_649_000_200_001,
    sequence=3,
    source="simulator",
)


def crc_64_avro(data: bytes) -> int:
    """The Rabin fingerprint as the specification's Java code computes it."""
    empty = 0xC15D213AA4D7A795
    table = []
    for i in range(256):
        value = i
        for _ in range(8):
            value = (value >> 1) ^ (empty if value & 1 else 0)
        table.append(value)
    fingerprint = empty
    for byte in data:
        fingerprint = (fingerprint >> 8) ^ table[(fingerprint ^ byte) & 0xFF]
    return fingerprint


def decode(message: bytes) -> dict[str, object]:
    schema = fastavro.parse_schema(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    buffer = BytesIO(message[10:])
    record = fastavro.schemaless_reader(buffer, schema, None)
    assert buffer.read() == b""
    assert isinstance(record, dict)
    return record


def test_the_fingerprint_function_of_this_test_gives_the_specifications_values():
    # From the Avro test data (share/test/data/schema-tests.txt).
    assert crc_64_avro(b'"null"') == 7195948357588979594
    assert crc_64_avro(b'"int"') == 8247732601305521295


def test_the_header_is_the_marker_and_the_fingerprint_in_little_endian_order():
    header = b"\xc3\x01" + struct.pack("<Q", crc_64_avro(CANONICAL_FORM.encode()))

    assert encode_trade(TRADE)[:10] == header
    assert header == SINGLE_OBJECT_MARKER + TRADE_FINGERPRINT


def test_the_schema_in_use_is_the_file_in_schemas():
    assert SCHEMA_FILE.read_text(encoding="utf-8") == TRADE_SCHEMA_JSON


def test_a_trade_is_read_back_with_the_schema_file():
    assert decode(encode_trade(TRADE)) == {
        "symbol": "BINANCE:BTCUSDT",
        "price": 84_900.01,
        "volume": 0.00071,
        # fastavro turns the logical types into times; 1763649000 s are 2025-11-20T14:30:00Z.
        "event_time": datetime.fromisoformat("2025-11-20T14:30:00.123000+00:00"),
        "conditions": ["1", "12"],
        "trade_id": -4_611_686_018_427_387_905,
        "received_at": datetime.fromisoformat("2025-11-20T14:30:00.200001+00:00"),
        "sequence": 3,
        "source": "simulator",
    }


def test_the_record_is_the_bytes_that_the_specification_says():
    trade = Trade("A", 1.5, 0.0, 1, None, -1, 64, 2, "r")
    expected = (
        b"\x02A"  # length 1 in zigzag
        + struct.pack("<d", 1.5)
        + struct.pack("<d", 0.0)
        + b"\x02"  # event_time 1
        + b"\x00"  # union branch 0: null
        + b"\x01"  # trade_id -1
        + b"\x80\x01"  # received_at 64: zigzag 128 in two bytes
        + b"\x04"  # sequence 2
        + b"\x02r"
    )
    assert encode_trade(trade)[10:] == expected


def test_no_conditions_and_an_empty_list_stay_different_on_the_wire():
    none = Trade("A", 1.5, 0.0, 1, None, 1, 1, 0, "r")
    empty = Trade("A", 1.5, 0.0, 1, (), 1, 1, 0, "r")
    assert decode(encode_trade(none))["conditions"] is None
    assert decode(encode_trade(empty))["conditions"] == []


@pytest.mark.parametrize("trade_id", [-(2**63), -1, 0, 2**63 - 1])
def test_every_signed_64_bit_id_survives(trade_id):
    trade = Trade("A", 1.5, 1.0, 1, ("1",), trade_id, 1, 0, "r")
    assert decode(encode_trade(trade))["trade_id"] == trade_id


@pytest.mark.parametrize("number", [0.1, 5e-324, 1.7976931348623157e308, 84_900.01])
def test_prices_and_volumes_keep_every_bit(number):
    record = decode(encode_trade(Trade("A", number, number, 1, None, 1, 1, 0, "r")))
    assert struct.pack("<d", record["price"]) == struct.pack("<d", number)
    assert struct.pack("<d", record["volume"]) == struct.pack("<d", number)


def test_an_id_beyond_64_bits_is_refused_instead_of_cut():
    with pytest.raises((ValueError, OverflowError)):
        encode_trade(Trade("A", 1.5, 1.0, 1, None, 2**63, 1, 0, "r"))
