"""Kafka against bronze, and bronze against quarantine."""

from __future__ import annotations

from tapeline.audit.findings import Difference, MessageRef, Pair, TradeRef
from tapeline.audit.message_check import Quarantined, compare_messages, compare_quarantine
from tapeline.audit.messages import sort_messages
from tapeline.kafka.reader import RawMessage
from tapeline.model.times import from_millis
from tapeline.model.trade import Trade, encode_trade

WINDOW_MS = 1_710_513_000_000
VALUE = encode_trade(
    Trade("AAPL", 10.0, 100.0, WINDOW_MS + 250, None, 42, WINDOW_MS * 1000, 0, "replay")
)


def a_message(offset: int, value: bytes | None = VALUE, key: bytes = b"AAPL") -> RawMessage:
    return offset, WINDOW_MS + offset, key, value


def differences(
    kafka: list[RawMessage],
    bronze: list[RawMessage],
    oldest_offset: int = 0,
    bronze_gone_ms: int | None = None,
) -> list[Difference]:
    return list(
        compare_messages(
            "topic",
            3,
            kafka,
            bronze,
            oldest_offset=oldest_offset,
            bronze_gone_ms=bronze_gone_ms,
        )
    )


def test_the_same_bytes_are_no_difference() -> None:
    assert differences([a_message(0), a_message(1, None)], [a_message(0), a_message(1, None)]) == []


def test_a_message_that_bronze_lacks_names_its_bar_and_trade() -> None:
    assert differences([a_message(0), a_message(1)], [a_message(0)]) == [
        Difference(
            pair=Pair.KAFKA_BRONZE,
            what="message",
            expected="in bronze",
            found="none",
            symbol="AAPL",
            window_start=from_millis(WINDOW_MS),
            trade=TradeRef(event_time=from_millis(WINDOW_MS + 250), trade_id=42),
            message=MessageRef(topic_id="topic", kafka_partition=3, kafka_offset=1),
        )
    ]


def test_a_row_that_kafka_never_had_is_a_difference() -> None:
    (found,) = differences([a_message(0)], [a_message(0), a_message(1)])

    assert (found.what, found.expected, found.found) == ("message", "none", "in bronze")


def test_other_bytes_another_key_and_another_time_are_differences() -> None:
    changed = (0, WINDOW_MS + 9, b"MSFT", b"\x00")

    found = differences([a_message(0)], [changed])

    assert [(d.what, d.expected, d.found) for d in found] == [
        ("kafka_timestamp", "2024-03-15T14:30:00Z", "2024-03-15T14:30:00.009Z"),
        ("message_key", "0x4141504c", "0x4d534654"),
        ("message", f"0x{VALUE.hex()}", "0x00"),
    ]


def test_what_kafka_or_bronze_has_expired_is_no_difference() -> None:
    assert differences([a_message(2)], [a_message(1), a_message(2)], oldest_offset=2) == []
    assert differences([a_message(1), a_message(2)], [a_message(2)], 0, WINDOW_MS + 1) == []
    assert len(differences([a_message(1), a_message(2)], [a_message(2)], 0, WINDOW_MS)) == 1


def quarantine_differences(
    bronze: list[RawMessage], quarantine: list[Quarantined], gone_ms: int | None = None
) -> list[tuple[int, str, str, str]]:
    found = compare_quarantine(
        "topic",
        3,
        bronze,
        sort_messages("topic", 3, bronze).invalid,
        quarantine,
        bronze_gone_ms=gone_ms,
        quarantine_gone_ms=gone_ms,
    )
    return [
        (d.message.kafka_offset, d.what, d.expected, d.found)
        for d in found
        if d.message is not None
    ]


BAD = a_message(4, b"no avro")
ROW = Quarantined(4, WINDOW_MS + 4, "undecodable", b"AAPL", b"no avro")


def test_a_bad_message_with_its_bytes_and_reason_is_no_difference() -> None:
    assert quarantine_differences([a_message(3), BAD], [ROW]) == []


def test_a_bad_message_must_be_in_quarantine() -> None:
    assert quarantine_differences([BAD], []) == [(4, "quarantine", "undecodable", "none")]
    assert quarantine_differences([BAD], [], gone_ms=WINDOW_MS + 4) == []


def test_the_reason_must_be_one_that_holds() -> None:
    row = ROW._replace(reason="bad_price")

    assert quarantine_differences([BAD], [row]) == [(4, "reason", "undecodable", "bad_price")]


def test_the_quarantined_bytes_must_be_those_of_bronze() -> None:
    row = ROW._replace(value=b"no Avro")

    assert quarantine_differences([BAD], [row]) == [
        (4, "quarantined bytes", "those of bronze", "others")
    ]


def test_a_valid_trade_must_not_be_in_quarantine() -> None:
    assert quarantine_differences([a_message(4)], [ROW]) == [
        (4, "quarantine", "none: it is a valid trade", "undecodable")
    ]


def test_a_quarantined_message_must_be_in_bronze() -> None:
    assert quarantine_differences([], [ROW]) == [(4, "message", "in bronze", "none")]
    assert quarantine_differences([], [ROW], gone_ms=WINDOW_MS + 4) == []
