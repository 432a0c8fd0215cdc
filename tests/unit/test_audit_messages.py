"""The audit decodes messages itself and finds every reason against them."""

from __future__ import annotations

import math

import pytest

from tapeline.audit.messages import sort_messages
from tapeline.model.trade import Trade, encode_trade

TIME_MS = 1_710_513_000_000  # 2024-03-15T14:30Z
RECEIPT_MS = TIME_MS + 2_000
TRADE = Trade("AAPL", 10.5, 100.0, TIME_MS + 61, ("1", "12"), -7, RECEIPT_MS * 1000 + 999, 3, "x")
replace = Trade._replace


# The rank is an int of 32 bits; written as a long, 1 << 31 takes five bytes.
RANKED = encode_trade(replace(TRADE, sequence=(1 << 31) - 1))
ONE_RANK_TOO_HIGH = RANKED.replace(b"\xfe\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x10")


def reasons_of(value: bytes | None) -> set[str]:
    """Return why a message that Kafka received at RECEIPT_MS is no valid trade."""
    result = sort_messages("topic", 0, [(5, RECEIPT_MS, b"AAPL", value)])
    assert (result.trades.num_rows == 0) == bool(result.invalid)
    return {reason for bad in result.invalid.values() for reason in bad.reasons}


def test_a_valid_message_is_its_trade_with_its_window_and_its_place_in_kafka() -> None:
    messages = [(41, RECEIPT_MS, b"AAPL", encode_trade(TRADE))]

    trades = sort_messages("topic", 2, messages).trades

    assert trades.to_pylist() == [
        {
            "symbol": "AAPL",
            "bucket_ms": TIME_MS,
            "event_time_ms": TIME_MS + 61,
            "trade_id": -7,
            "price": 10.5,
            "volume": 100.0,
            "conditions": "1\x1f12",
            "sequence": 3,
            "received_at_ms": RECEIPT_MS,
            "source": "x",
            "topic_id": "topic",
            "kafka_partition": 2,
            "kafka_offset": 41,
        }
    ]


@pytest.mark.parametrize("branch", [b"\x01", b"\x03", b"\x04"])
def test_conditions_of_a_branch_that_the_schema_lacks_do_not_decode(branch: bytes) -> None:
    some, none = encode_trade(TRADE), encode_trade(replace(TRADE, conditions=None))
    at = next(i for i, (a, b) in enumerate(zip(some, none, strict=False)) if a != b)

    assert reasons_of(some[:at] + branch + some[at + 1 :]) == {"undecodable"}


@pytest.mark.parametrize("conditions", [None, ()])
def test_no_conditions_and_an_empty_list_are_the_same(conditions: tuple[str, ...] | None) -> None:
    value = encode_trade(replace(TRADE, conditions=conditions))

    trades = sort_messages("topic", 0, [(0, RECEIPT_MS, None, value)]).trades

    assert trades["conditions"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("value", "reasons"),
    [
        (None, {"undecodable"}),
        (b"", {"undecodable"}),
        (b"no avro", {"undecodable"}),
        (encode_trade(TRADE)[:-1], {"undecodable"}),
        (encode_trade(TRADE)[:10], {"undecodable"}),
        (b"\xc3\x01" + bytes(8) + b"of another schema", {"unknown_schema"}),
        (b"\xc3\x01" + bytes(3), {"unknown_schema", "undecodable"}),
        (encode_trade(replace(TRADE, symbol="")), {"empty_symbol"}),
        (encode_trade(replace(TRADE, symbol="A" * 129)), {"empty_symbol"}),
        (encode_trade(replace(TRADE, price=0.0)), {"bad_price"}),
        (encode_trade(replace(TRADE, price=1e11)), {"bad_price"}),
        (encode_trade(replace(TRADE, price=math.nan)), {"bad_price"}),
        (encode_trade(replace(TRADE, price=math.inf)), {"bad_price"}),
        (encode_trade(replace(TRADE, volume=-1.0)), {"bad_volume"}),
        (encode_trade(replace(TRADE, volume=1e13)), {"bad_volume"}),
        (encode_trade(replace(TRADE, volume=math.nan)), {"bad_volume"}),
        (encode_trade(replace(TRADE, event_time_ms=946_684_799_999)), {"bad_time"}),
        (encode_trade(replace(TRADE, event_time_ms=RECEIPT_MS + 60_001)), {"bad_time"}),
        (encode_trade(replace(TRADE, event_time_ms=1 << 62)), {"bad_time", "undecodable"}),
        (ONE_RANK_TOO_HIGH, {"undecodable"}),
        (encode_trade(replace(TRADE, price=-1.0, volume=-1.0)), {"bad_price", "bad_volume"}),
    ],
)
def test_what_is_no_valid_trade_has_every_reason_that_holds(
    value: bytes | None, reasons: set[str]
) -> None:
    assert reasons_of(value) == reasons


@pytest.mark.parametrize(
    "trade",
    [
        replace(TRADE, symbol="A" * 128),
        replace(TRADE, symbol="Ä" * 128),
        replace(TRADE, volume=0.0),
        replace(TRADE, sequence=(1 << 31) - 1),
        replace(TRADE, event_time_ms=946_684_800_000),
        replace(TRADE, event_time_ms=RECEIPT_MS + 60_000),
    ],
)
def test_what_is_just_valid_is_a_trade(trade: Trade) -> None:
    assert reasons_of(encode_trade(trade)) == set()


@pytest.mark.parametrize(
    ("ahead_ms", "reasons"),
    [(3_600_000, set()), (86_460_000, set()), (86_460_001, {"bad_time"})],
)
def test_the_brokers_clock_bounds_a_producers_that_is_more_than_a_day_ahead(
    ahead_ms: int, reasons: set[str]
) -> None:
    time_ms = RECEIPT_MS + ahead_ms
    trade = replace(TRADE, event_time_ms=time_ms, received_at_us=time_ms * 1000)

    assert reasons_of(encode_trade(trade)) == reasons


def test_a_message_that_is_none_leaves_its_neighbours_alone() -> None:
    values = [encode_trade(TRADE), None, encode_trade(replace(TRADE, price=0.0))]
    messages = [(offset, RECEIPT_MS, b"AAPL", value) for offset, value in enumerate(values)]

    result = sort_messages("topic", 0, messages)

    assert result.trades["kafka_offset"].to_pylist() == [0]
    assert {offset: bad.reasons for offset, bad in result.invalid.items()} == {
        1: {"undecodable"},
        2: {"bad_price"},
    }
    assert result.invalid[2].message.value == values[2]
