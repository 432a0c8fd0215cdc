"""Dead letters: what is told of them, and which trades they hold by the rules of today."""

from __future__ import annotations

import json

import pytest

from tapeline.cli.dead_letters import counts, summary
from tapeline.dead_letters.letter import Letter, Origin, read_refusals
from tapeline.dead_letters.redrive import Redriven, trades_in
from tapeline.model.trade import Trade, encode_trade
from tapeline.producer.identity import TradeIdentity
from tapeline.producer.validation import WireTrade

T = 1_763_649_000_123
GOOD = {"s": "AAPL", "p": 189.5, "v": 100, "t": T, "c": ["1"]}
BAD = {**GOOD, "p": -1}


def frame(*items):
    return json.dumps({"type": "trade", "data": items}).encode()


def letter(data, *refusals, origin=Origin.FEED, key="", source="finnhub"):
    return Letter(origin, "trades_dlq/0/7", T * 1000 + 50_000, data, refusals, key, source)


def stale(*items):
    """Return the ids that a frame's trades get when all of them come late."""
    identity = TradeIdentity("finnhub", 2.0)
    symbols = {item["s"] for item in items}
    identity.assign([WireTrade(s, 1.0, 1.0, T + 1, None) for s in symbols], 0, 0.0)
    wires = [WireTrade(i["s"], float(i["p"]), float(i["v"]), i["t"], tuple(i["c"])) for i in items]
    return [(t.trade_id, t.sequence) for t in identity.assign(wires, 0, 9.0)]


def found(*of):
    trades, refused = trades_in(letter(*of))
    return [(t.trade_id, t.sequence) for t in trades], refused


def test_a_frame_that_was_refused_whole_gives_what_it_gives_when_it_comes_late():
    twins = (GOOD, GOOD, {**GOOD, "s": "MSFT"}, {**GOOD, "v": 7})
    assert found(frame(*twins), (None, "unknown_message")) == (stale(*twins), 0)


def test_only_what_was_refused_of_a_frame_is_sent_and_it_comes_after_its_twins():
    """The other two are in silver already, with the ids of 0 and 1."""
    ids, refused = found(frame(GOOD, GOOD, GOOD), (1, "bad_price"))
    assert (ids, refused) == ([stale(GOOD, GOOD, GOOD)[2]], 0)


def test_the_same_letter_gives_the_same_trades_whenever_it_is_read():
    one = letter(frame(GOOD, {**GOOD, "t": T + 1}, GOOD), (0, "bad_price"), (2, "bad_price"))
    assert trades_in(one) == trades_in(one)
    trades = trades_in(one)[0]
    assert len({t.trade_id for t in trades}) == 2
    assert {(t.received_at_us, t.source) for t in trades} == {(T * 1000 + 50_000, "finnhub")}


def test_what_is_refused_by_the_rules_of_today_too_is_counted():
    assert found(frame(GOOD, BAD, GOOD), (1, "bad_price")) == ([], 1)
    assert found(frame(BAD, GOOD, BAD), (1, "x"), (2, "x")) == ([stale(GOOD)[0]], 1)
    assert found(b'{"data":[{"s":"', (None, "malformed_json")) == ([], 1)
    assert found(b"", (None, "frame_too_large")) == ([], 1)
    assert found(b'{"type":"ping"}', (None, "unknown_message")) == ([], 1)


@pytest.mark.parametrize("index", [-1, 3, 10**9])
def test_an_index_that_the_frame_does_not_have_sends_nothing(index):
    assert found(frame(GOOD), (index, "bad_price"))[0] == []
    assert counts([letter(frame(GOOD), (index, "bad_price"))])[0]["count"] == 1


def test_a_message_of_the_topic_keeps_the_id_that_it_holds():
    trade = Trade("AAPL", 189.5, 100.0, T, ("1",), 77, T * 1000, 3, "finnhub")
    one = letter(encode_trade(trade), (None, "unknown_schema"), origin=Origin.TOPIC, key="AAPL")
    assert trades_in(one) == ([trade], 0)
    cut = letter(encode_trade(trade)[:-3], (None, "undecodable"), origin=Origin.TOPIC)
    assert trades_in(cut) == ([], 1)


def test_each_refusal_is_counted_by_reason_and_symbol():
    letters = [
        letter(frame(GOOD, BAD, BAD), (1, "bad_price"), (2, "bad_price")),
        letter(frame({"s": 7}, "x"), (0, "wrong_type"), (1, "wrong_type")),
        letter(b"\xff", (None, "malformed_json")),
        letter(b"?", (None, "undecodable"), origin=Origin.TOPIC, key="KO"),
    ]
    found = [(r["origin"], r["reason"], r["symbol"], r["count"]) for r in counts(letters)]
    assert sorted(found, key=str) == [
        ("feed", "bad_price", "AAPL", 2),
        ("feed", "malformed_json", None, 1),
        ("feed", "wrong_type", None, 2),
        ("topic", "undecodable", "KO", 1),
    ]
    assert [r["count"] for r in counts(letters, "bad_price")] == [2]


@pytest.mark.parametrize("header", [None, b"", b"{", b"[]", b"7", b"[1]", b'[["a", "b"]]'])
def test_without_a_list_of_refusals_the_whole_frame_was_refused(header):
    assert read_refusals(header, "bad_price") == ((None, "bad_price"),)


def test_refusals_are_read_as_the_producer_writes_them():
    assert read_refusals(b'[[3,"bad_price"],[null,"wrong_type"]]', "bad_price") == (
        (3, "bad_price"),
        (None, "wrong_type"),
    )


def test_a_dry_run_says_what_it_would_send_and_what_not():
    trade = Trade("AAPL", 1.0, 1.0, T, None, 1, 1, 0, "finnhub")
    found = Redriven([trade], refused=2, expired=3, stored=4)
    assert summary(found, is_sent=False) == [
        "Valid now, to be sent with --yes: 1 trade.",
        "In silver already: 4.",
        "Valid, but received so long ago that silver has begun to lose their time: 3.",
        "Still refused: 2.",
    ]
    assert summary(Redriven([trade]), is_sent=True) == ["Sent: 1 trade."]
