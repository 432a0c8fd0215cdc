"""Bronze against silver: every trade once, the copy of lowest rank, and nothing else."""

from __future__ import annotations

from typing import Any

from tapeline.audit.findings import NO_BRONZE, NO_SILVER, Compared, MessageRef, TradeRef
from tapeline.audit.window_check import compare_trades
from tapeline.model.times import from_millis
from tests.audit_rows import KEY, RECEIVED_MS, START_MS, a_trade, copies, frame


def texts(compared: Compared) -> list[tuple[str, str, str]]:
    return [(d.what, d.expected, d.found) for d in compared.differences]


def test_the_same_trades_are_no_difference() -> None:
    rows = a_trade(), a_trade(trade_id=2, conditions=None)

    assert compare_trades(copies(*rows), frame(*rows)) == Compared()


def test_a_trade_that_silver_lacks_is_named() -> None:
    (found,) = compare_trades(copies(a_trade()), frame()).differences

    assert (found.what, found.expected, found.found) == ("trade", "in silver", "none")
    assert (found.symbol, found.window_start) == KEY
    assert found.trade == TradeRef(event_time=from_millis(START_MS + 500), trade_id=1)
    assert found.message == MessageRef(topic_id="topic", kafka_partition=0, kafka_offset=7)


def test_a_row_of_silver_that_no_message_made_is_named() -> None:
    (found,) = compare_trades(copies(), frame(a_trade())).differences

    assert (found.what, found.expected, found.found) == ("trade", "none in bronze", "in silver")
    assert found.trade == TradeRef(event_time=from_millis(START_MS + 500), trade_id=1)
    assert found.message is None


def test_every_field_that_was_changed_is_a_difference() -> None:
    changes: dict[str, Any] = {
        "price": 10.01,
        "volume": 101.0,
        "conditions": "1\x1f12",
        "received_at_ms": START_MS + 2_500,
        "source": "finnhub",
    }

    found = compare_trades(copies(a_trade()), frame(a_trade(**changes)))

    assert texts(found) == [
        ("price", "10.0", "10.01"),
        ("volume", "100.0", "101.0"),
        ("conditions", "1", "1|12"),
        ("received_at", "2026-11-20T15:30:01Z", "2026-11-20T15:30:02.500Z"),
        ("source", "replay", "finnhub"),
    ]


def test_a_field_that_was_emptied_is_a_difference() -> None:
    assert texts(compare_trades(copies(a_trade()), frame(a_trade(price=None)))) == [
        ("price", "10.0", "none")
    ]
    assert texts(compare_trades(copies(a_trade()), frame(a_trade(sequence=None)))) == [
        ("sequence", "0", "none")
    ]


COPIES = copies(
    a_trade(sequence=4, kafka_offset=7),
    a_trade(sequence=2, kafka_offset=9, received_at_ms=RECEIVED_MS + 5),
    a_trade(sequence=3, kafka_offset=11),
)


def test_of_copies_the_lowest_rank_must_stand_in_silver() -> None:
    lowest = frame(a_trade(sequence=2, kafka_offset=9, received_at_ms=RECEIVED_MS + 5))
    other = frame(a_trade(sequence=4, kafka_offset=7))

    assert compare_trades(COPIES, lowest) == Compared()
    assert texts(compare_trades(COPIES, other)) == [("sequence", "2", "4")]


def test_a_rank_that_no_copy_has_is_a_difference() -> None:
    assert texts(compare_trades(COPIES, frame(a_trade(sequence=1)))) == [("sequence", "2", "1")]


def test_of_copies_of_one_rank_silver_may_hold_a_mixture_but_nothing_else() -> None:
    both = copies(
        a_trade(received_at_ms=RECEIVED_MS, source="replay"),
        a_trade(received_at_ms=RECEIVED_MS + 5, source="finnhub"),
    )
    mixture = frame(a_trade(received_at_ms=RECEIVED_MS, source="finnhub"))
    other = frame(a_trade(received_at_ms=RECEIVED_MS + 1, source="finnhub"))

    assert compare_trades(both, mixture) == Compared()
    assert [d.what for d in compare_trades(both, other).differences] == ["received_at"]


def test_a_trade_in_the_wrong_window_is_missing_in_one_and_too_many_in_the_other() -> None:
    moved = frame(a_trade(bucket_ms=START_MS + 300_000))

    assert texts(compare_trades(copies(a_trade()), moved)) == [
        ("trade", "in silver", "none"),
        ("trade", "none in bronze", "in silver"),
    ]


def test_what_has_expired_is_named_and_no_difference() -> None:
    row, message = frame(a_trade()), copies(a_trade())
    first = frame(a_trade(sequence=0))
    copy = copies(a_trade(sequence=1, received_at_ms=RECEIVED_MS + 9))

    assert compare_trades(copies(), row, bronze_gone_ms=RECEIVED_MS).unaudited == {NO_BRONZE: {KEY}}
    assert compare_trades(message, frame(), silver_gone_ms=RECEIVED_MS).unaudited == {
        NO_SILVER: {KEY}
    }
    # The copy that silver kept has expired from bronze, a later one has not.
    assert compare_trades(copy, first, bronze_gone_ms=RECEIVED_MS) == Compared(
        unaudited={NO_BRONZE: {KEY}}
    )
    assert len(compare_trades(copies(), row, bronze_gone_ms=RECEIVED_MS - 1).differences) == 1
    assert len(compare_trades(message, frame(), silver_gone_ms=RECEIVED_MS - 1).differences) == 1
