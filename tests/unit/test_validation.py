"""What the producer takes for a trade, and the reason for everything else."""

from __future__ import annotations

from decimal import Decimal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.model.reasons import PRICE_LIMIT, VOLUME_LIMIT, Reason
from tapeline.producer.validation import (
    FeedMessage,
    Ping,
    Reject,
    TradeFrame,
    WireTrade,
    parse_frame,
)

NOW_MS = 1_763_649_001_000  # 2025-11-20T14:30:01Z
GOOD = {"s": "AAPL", "p": 189.13, "t": 1_763_649_000_123, "v": 100, "c": ["1", "12"]}


def frame_of(*items: object) -> bytes:
    return orjson.dumps({"type": "trade", "data": list(items)})


def reason_of(**changes: object) -> Reason | None:
    """Parse one trade with some fields changed; None when it is accepted."""
    parsed = parse_frame(frame_of({**GOOD, **changes}), NOW_MS)
    assert isinstance(parsed, TradeFrame)
    assert len(parsed.trades) + len(parsed.rejects) == 1
    return parsed.rejects[0].reason if parsed.rejects else None


def without(name: str) -> dict[str, object]:
    return {k: v for k, v in GOOD.items() if k != name}


def test_a_frame_of_two_symbols_keeps_its_order():
    frame = (
        b'{"data":[{"c":["1","12"],"p":189.13,"s":"AAPL","t":1763649000123,"v":7},'
        b'{"c":null,"p":84900.01,"s":"BINANCE:BTCUSDT","t":1763649000120,"v":0.00071}],'
        b'"type":"trade"}'
    )
    assert parse_frame(frame, NOW_MS) == TradeFrame(
        (
            WireTrade("AAPL", 189.13, 7.0, 1_763_649_000_123, ("1", "12")),
            WireTrade("BINANCE:BTCUSDT", 84_900.01, 0.00071, 1_763_649_000_120, None),
        ),
        (),
    )


def test_text_and_bytes_are_read_alike():
    assert parse_frame(frame_of(GOOD).decode(), NOW_MS) == parse_frame(frame_of(GOOD), NOW_MS)


def test_whole_numbers_become_floats():
    parsed = parse_frame(frame_of({**GOOD, "p": 189, "v": 100}), NOW_MS)
    assert isinstance(parsed, TradeFrame)
    assert [(repr(t.price), repr(t.volume)) for t in parsed.trades] == [("189.0", "100.0")]


def test_a_ping_is_a_ping():
    assert parse_frame('{"type":"ping"}', NOW_MS) == Ping()


def test_an_error_is_told_in_the_feeds_words():
    frame = '{"type":"error","msg":"Subscribing to too many symbols"}'
    assert parse_frame(frame, NOW_MS) == FeedMessage(
        "Subscribing to too many symbols", is_full=True
    )


def test_an_error_without_words_is_still_an_error():
    assert isinstance(parse_frame('{"type":"error"}', NOW_MS), FeedMessage)


def test_a_frame_without_trades_is_no_reject():
    assert parse_frame('{"type":"trade","data":[]}', NOW_MS) == TradeFrame((), ())


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"ping",
        b'{"type":"trade","data":[{"s":"AAPL","p":NaN,"t":1763649000123,"v":1}]}',
        b'{"type":"trade","data":[{"s":"AAPL","p":Infinity,"t":1763649000123,"v":1}]}',
        b'{"type":"trade","data":[{"s":"AAPL","p":-Infinity,"t":1763649000123,"v":1}]}',
        b'{"type":"trade","data":[{"s":"\\ud800","p":1,"t":1763649000123,"v":1}]}',
        b"[" * 5000 + b"]" * 5000,
    ],
)
def test_what_is_no_json_is_malformed(frame):
    assert parse_frame(frame, NOW_MS) == TradeFrame((), (Reject(Reason.MALFORMED_JSON),))


@pytest.mark.parametrize(
    "frame",
    ["null", "1", '"ping"', "[]", '["ping"]', "{}", '{"type":"news"}', '{"type":null}'],
)
def test_other_messages_are_unknown(frame):
    assert parse_frame(frame, NOW_MS) == TradeFrame((), (Reject(Reason.UNKNOWN_MESSAGE),))


@pytest.mark.parametrize("data", [None, {}, "trades", 1, True])
def test_a_trade_message_whose_data_is_no_list_is_of_the_wrong_type(data):
    frame = orjson.dumps({"type": "trade", "data": data})
    assert parse_frame(frame, NOW_MS) == TradeFrame((), (Reject(Reason.WRONG_TYPE),))


def test_a_trade_message_without_data_is_of_the_wrong_type():
    assert parse_frame('{"type":"trade"}', NOW_MS) == TradeFrame((), (Reject(Reason.WRONG_TYPE),))


@pytest.mark.parametrize("item", [None, 1, "AAPL", [], [GOOD], {}])
def test_an_item_that_is_no_trade_is_of_the_wrong_type(item):
    assert parse_frame(frame_of(item), NOW_MS) == TradeFrame((), (Reject(Reason.WRONG_TYPE, 0),))


@pytest.mark.parametrize("name", ["s", "p", "t", "v"])
def test_a_trade_that_lacks_a_field_is_of_the_wrong_type(name):
    parsed = parse_frame(frame_of(without(name)), NOW_MS)
    assert parsed == TradeFrame((), (Reject(Reason.WRONG_TYPE, 0),))


@pytest.mark.parametrize(
    "changes",
    [
        {"p": True},
        {"v": True},
        {"t": True},
        {"p": False},
        {"p": "189.13"},
        {"v": "100"},
        {"t": "1763649000123"},
        {"t": 1_763_649_000_123.0},
        {"p": None},
        {"v": None},
        {"t": None},
        {"s": None},
        {"s": 7},
        {"s": ["AAPL"]},
        {"c": "1"},
        {"c": 1},
        {"c": {"1": 1}},
        {"c": [1]},
        {"c": ["1", None]},
        {"c": [["1"]]},
        {"c": True},
    ],
)
def test_a_value_of_another_type_is_of_the_wrong_type(changes):
    assert reason_of(**changes) is Reason.WRONG_TYPE


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [("", Reason.EMPTY_SYMBOL), ("A" * 129, Reason.EMPTY_SYMBOL), ("A" * 128, None)],
)
def test_a_symbol_has_1_to_128_characters(symbol, reason):
    assert reason_of(s=symbol) is reason


def test_a_symbol_may_hold_a_space():
    assert reason_of(s="IC MARKETS:1") is None


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        (-0.01, Reason.BAD_PRICE),
        (0, Reason.BAD_PRICE),
        (0.0, Reason.BAD_PRICE),
        (1e11, Reason.BAD_PRICE),
        (10**18, Reason.BAD_PRICE),
        (1.7e308, Reason.BAD_PRICE),
        (1e-8, None),
        (99_999_999_999.0, None),
    ],
)
def test_a_price_is_above_0_and_below_a_limit(price, reason):
    assert reason_of(p=price) is reason


@pytest.mark.parametrize(
    ("volume", "reason"),
    [
        (-1, Reason.BAD_VOLUME),
        (-1e-9, Reason.BAD_VOLUME),
        (1e13, Reason.BAD_VOLUME),
        (2**64 - 1, Reason.BAD_VOLUME),
        (0, None),
        (0.0, None),
        (1e-8, None),
    ],
)
def test_a_volume_is_0_or_more_and_below_a_limit(volume, reason):
    assert reason_of(v=volume) is reason


@pytest.mark.parametrize(
    ("event_time_ms", "reason"),
    [
        (1_763_649_000, Reason.BAD_TIME),  # seconds in place of milliseconds
        (1_763_649_000_123_000, Reason.BAD_TIME),  # microseconds
        (4_070_908_800_000, Reason.BAD_TIME),  # 2099-01-01
        (0, Reason.BAD_TIME),
        (-1, Reason.BAD_TIME),
        (946_684_799_999, Reason.BAD_TIME),  # the last millisecond of 1999
        (946_684_800_000, None),
        (NOW_MS + 60_000, None),
        (NOW_MS + 60_001, Reason.BAD_TIME),
        (2**63 - 1, Reason.BAD_TIME),
    ],
)
def test_a_time_lies_between_2000_and_a_minute_after_receipt(event_time_ms, reason):
    assert reason_of(t=event_time_ms) is reason


def test_numbers_beyond_64_bits_are_rejected_one_by_one():
    huge = "1" + "0" * 40
    frame = (
        f'{{"type":"trade","data":[{{"s":"A","p":{huge},"t":1763649000123,"v":1}},'
        f'{{"s":"A","p":1,"t":{huge},"v":1}},{{"s":"A","p":1,"t":1763649000123,"v":{huge}}},'
        '{"s":"A","p":1,"t":1763649000123,"v":1}]}'
    )
    parsed = parse_frame(frame, NOW_MS)
    assert isinstance(parsed, TradeFrame)
    assert parsed.trades == (WireTrade("A", 1.0, 1.0, 1_763_649_000_123, None),)
    assert [r.index for r in parsed.rejects] == [0, 1, 2]
    assert parsed.rejects[0].reason is Reason.BAD_PRICE
    assert parsed.rejects[1].reason in {Reason.BAD_TIME, Reason.WRONG_TYPE}
    assert parsed.rejects[2].reason is Reason.BAD_VOLUME


@pytest.mark.parametrize(
    ("item", "conditions"),
    [
        ({**GOOD, "c": None}, None),
        (without("c"), None),
        ({**GOOD, "c": []}, ()),
        ({**GOOD, "c": ["1"]}, ("1",)),
        ({**GOOD, "c": ["12", "1", "12"]}, ("12", "1", "12")),
    ],
)
def test_conditions_keep_their_order_and_may_be_null_absent_or_empty(item, conditions):
    parsed = parse_frame(frame_of(item), NOW_MS)
    assert parsed == TradeFrame(
        (WireTrade("AAPL", 189.13, 100.0, 1_763_649_000_123, conditions),), ()
    )


def test_a_bad_trade_does_not_hide_the_good_ones_beside_it():
    parsed = parse_frame(frame_of({**GOOD, "p": -1}, GOOD, 5, {**GOOD, "s": ""}, GOOD), NOW_MS)
    assert isinstance(parsed, TradeFrame)
    assert [t.price for t in parsed.trades] == [189.13, 189.13]
    assert parsed.rejects == (
        Reject(Reason.BAD_PRICE, 0),
        Reject(Reason.WRONG_TYPE, 2),
        Reject(Reason.EMPTY_SYMBOL, 3),
    )


def test_unknown_fields_of_a_trade_are_ignored():
    assert reason_of(x=1, id="7") is None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
odd_trades = st.fixed_dictionaries(
    {},
    optional={
        "s": st.just("AAPL") | json_values,
        "p": st.floats(0.01, 1e6) | json_values,
        "t": st.integers(1_763_000_000_000, NOW_MS) | json_values,
        "v": st.floats(0, 1e6) | json_values,
        "c": st.lists(st.sampled_from(["1", "12"])) | json_values,
    },
)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_ever_raise(data):
    assert isinstance(parse_frame(data, NOW_MS), (TradeFrame, Ping, FeedMessage))


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=200))
def test_no_text_ever_raises(text):
    assert isinstance(parse_frame(text, NOW_MS), (TradeFrame, Ping, FeedMessage))


@settings(deadline=None, max_examples=300)
@given(st.lists(odd_trades | json_values, max_size=5))
def test_every_item_of_a_frame_is_either_a_sound_trade_or_a_reject(items):
    parsed = parse_frame(frame_of(*items), NOW_MS)

    assert isinstance(parsed, TradeFrame)
    assert len(parsed.trades) + len(parsed.rejects) == len(items)
    assert len({r.index for r in parsed.rejects}) == len(parsed.rejects)
    for trade in parsed.trades:
        assert trade.symbol
        assert 0 < trade.price < float("inf")
        assert 0 <= trade.volume < float("inf")
        assert 946_684_800_000 <= trade.event_time_ms <= NOW_MS + 60_000


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def expected_reason(item: object) -> Reason | None:
    """The rules of docs/bad-input.md, one after the other."""
    if not isinstance(item, dict):
        return Reason.WRONG_TYPE
    symbol, price, volume, time_ms, conditions = (item.get(name) for name in "spvtc")
    types_are_right = (
        isinstance(symbol, str)
        and is_number(price)
        and is_number(volume)
        and is_number(time_ms)
        and not isinstance(time_ms, float)
        and (conditions is None or isinstance(conditions, list))
        and all(isinstance(c, str) and c and "," not in c for c in conditions or [])
    )
    rules = [
        (Reason.WRONG_TYPE, types_are_right),
        (Reason.EMPTY_SYMBOL, types_are_right and 1 <= len(symbol) <= 128),
        (Reason.BAD_PRICE, types_are_right and 0 < price < 1e11),
        (Reason.BAD_VOLUME, types_are_right and 0 <= volume < 1e13),
        (Reason.BAD_TIME, types_are_right and 946_684_800_000 <= time_ms <= NOW_MS + 60_000),
    ]
    return next((reason for reason, holds in rules if not holds), None)


@settings(deadline=None, max_examples=500)
@given(st.lists(odd_trades | json_values, max_size=5))
def test_each_item_is_rejected_for_the_first_rule_that_it_breaks(items):
    parsed = parse_frame(frame_of(*items), NOW_MS)

    assert isinstance(parsed, TradeFrame)
    reasons = [expected_reason(item) for item in items]
    assert [(r.index, r.reason) for r in parsed.rejects] == [
        (i, reason) for i, reason in enumerate(reasons) if reason is not None
    ]
    sound = [item for item, reason in zip(items, reasons, strict=True) if reason is None]
    assert [(t.symbol, t.price, t.volume, t.event_time_ms) for t in parsed.trades] == [
        (item["s"], item["p"], item["v"], item["t"]) for item in sound
    ]
    assert all(type(n) is float for t in parsed.trades for n in (t.price, t.volume))


def test_ten_thousand_trades_at_both_limits_fit_a_decimal_of_28_and_10_digits():
    largest = Decimal(PRICE_LIMIT) * Decimal(VOLUME_LIMIT)
    assert 10_000 * largest <= Decimal(10) ** 28
