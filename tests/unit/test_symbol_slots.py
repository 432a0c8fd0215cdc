"""Which symbols have no slot, though the feed does not name them."""

from __future__ import annotations

from structlog.testing import capture_logs

from tapeline.producer.symbol_slots import SymbolSlots

TOO_MANY = "Subscribing to too many symbols"
SECOND = 1_000_000


def asked(symbols: str, *answers: str) -> SymbolSlots:
    slots = SymbolSlots()
    slots.asked(symbols.split(), 0)
    for answer in answers:
        slots.told(answer)
    return slots


def test_refusals_are_of_the_last_symbols_asked_for_and_named_once():
    slots = asked("A B C D", TOO_MANY, TOO_MANY)

    with capture_logs() as events:
        slots.check(4 * SECOND)
        assert slots.waiting == ()  # answers may still come
        slots.check(5 * SECOND)
        slots.check(6 * SECOND)

    assert slots.waiting == ("C", "D")
    assert [(e["event"], e["symbols"]) for e in events] == [("symbols_without_slot", "C,D")]


def test_an_invalid_symbol_takes_no_slot_and_is_not_counted_among_the_last():
    slots = asked("A B X C X2", "Invalid symbol X", TOO_MANY, "Invalid symbol X2")
    slots.check(5 * SECOND)

    assert set(slots.waiting) == {"C", "X", "X2"}


def test_a_slot_that_frees_up_is_used_and_the_time_without_it_is_known():
    slots = asked("A B C D", TOO_MANY, TOO_MANY)
    slots.check(5 * SECOND)
    assert slots.check(119 * SECOND) == ()
    assert slots.check(120 * SECOND) == ("C", "D")

    slots.asked(("C", "D"), 120 * SECOND)
    slots.told(TOO_MANY)
    slots.check(125 * SECOND)

    assert slots.waiting == ("D",)
    assert slots.spans == {"C": (0, 125 * SECOND), "D": (0, None)}


def test_other_errors_say_nothing_of_slots():
    slots = asked("A B", "Invalid message")
    slots.check(5 * SECOND)

    assert slots.spans == {}
