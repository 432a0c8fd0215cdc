"""Which symbols have no slot, though the feed does not name them."""

from __future__ import annotations

import asyncio

from pydantic import SecretStr
from structlog.testing import capture_logs

from tapeline.feeds.feed import FeedMessage
from tapeline.feeds.finnhub import FINNHUB
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.symbol_slots import SymbolSlots
from tapeline.program.settings import FinnhubSettings

TOO_MANY = "Subscribing to too many symbols"
SECOND = 1_000_000


def us(steady_s: float) -> int:
    """Give the time of a clock that began at the epoch and is right."""
    return round(steady_s * SECOND)


def message_of(text: str) -> FeedMessage:
    message = FINNHUB.read({"type": "error", "msg": text})
    assert isinstance(message, FeedMessage)
    return message


def asked(symbols: str, *answers: str) -> SymbolSlots:
    slots = SymbolSlots()
    slots.asked(symbols.split(), 0.0)
    slots.sent(0.0)
    for answer in answers:
        slots.told(message_of(answer))
    return slots


def test_refusals_are_of_the_last_symbols_asked_for_and_named_once():
    slots = asked("A B C D", TOO_MANY, TOO_MANY)

    with capture_logs() as events:
        slots.check(4.0, us)
        assert slots.waiting == ()  # answers may still come
        slots.check(5.0, us)
        slots.check(6.0, us)

    assert slots.waiting == ("C", "D")
    assert [(e["event"], e["symbols"]) for e in events] == [("symbols_without_slot", "C,D")]


def test_an_invalid_symbol_takes_no_slot_and_is_not_counted_among_the_last():
    slots = asked("A B X C X2", "Invalid symbol X", TOO_MANY, "Invalid symbol X2")
    slots.check(5.0, us)

    assert set(slots.waiting) == {"C", "X", "X2"}


def test_a_slot_that_frees_up_is_used_and_the_time_without_it_is_known():
    slots = asked("A B C D", TOO_MANY, TOO_MANY)
    slots.check(5.0, us)
    assert slots.check(119.0, us) == ()
    assert slots.check(120.0, us) == ("C", "D")

    slots.asked(("C", "D"), 120.0)
    slots.sent(120.0)
    slots.told(message_of(TOO_MANY))
    slots.check(125.0, us)

    assert slots.waiting == ("D",)
    assert slots.spans == {"C": ((0, 125 * SECOND),), "D": ((0, None),)}


def test_other_errors_say_nothing_of_slots():
    slots = asked("A B", "Invalid message")
    slots.check(5.0, us)

    assert slots.spans == {}


def test_the_time_without_a_slot_begins_where_the_corrected_clock_says():
    ahead_us = [3_600 * SECOND]  # the host's clock is an hour ahead, and the feed shows it later

    def by_the_feed(steady_s: float) -> int:
        return us(steady_s) + ahead_us[0]

    slots = asked("A B", TOO_MANY)
    assert slots.check(4.0, by_the_feed) == ()
    ahead_us[0] = 0
    slots.check(5.0, by_the_feed)

    assert slots.spans == {"B": ((0, None),)}


def test_refusals_are_taken_in_and_asked_for_again_though_the_hosts_clock_steps(monkeypatch):
    steady_s = [1_000.0]
    host_us = [1_763_649_000 * SECOND]
    monkeypatch.setattr("tapeline.model.times.time.time_ns", lambda: host_us[0] * 1000)
    client = FinnhubClient(
        FinnhubSettings(), SecretStr("t"), ("A", "B"), monotonic=lambda: steady_s[0]
    )
    client.stamp_us = us
    client.slots.asked(client.symbols, steady_s[0])
    client.slots.sent(steady_s[0])
    client.slots.told(message_of(TOO_MANY))

    steady_s[0] += 5
    host_us[0] -= 3_600 * SECOND
    asyncio.run(client.look_after())

    assert client.slots.spans == {"B": ((1_000 * SECOND, None),)}


def test_a_symbol_counts_from_when_the_feed_has_taken_it_until_it_is_no_longer_asked_for():
    slots = asked("A B")
    slots.check(5.0, us)

    slots.changed(("A", "B"), ("A", "C"), us(60))
    assert (slots.waiting, slots.removed) == (("C",), ("B",))
    slots.asked(("C",), 60.0)
    assert slots.check(70.0, us) == ()  # as slow feeds are asked slowly, it may not be sent yet
    assert slots.waiting == ("C",)
    slots.sent(70.0)
    slots.check(75.0, us)

    assert slots.waiting == ()
    assert slots.spans == {"B": ((us(60), None),), "C": ((0, us(75)),)}


def test_a_symbol_that_comes_and_goes_has_each_time_without_it_and_none_between():
    slots = SymbolSlots()
    for minute in range(0, 240, 2):
        slots.changed(("A",), ("A", "B"), us(60 * minute))
        slots.asked(("B",), 60.0 * minute)
        slots.sent(60.0 * minute)
        slots.check(60.0 * minute + 5, us)
        assert (slots.waiting, slots.removed) == ((), ())
        slots.changed(("A", "B"), ("A",), us(60 * minute + 60))
        assert (slots.waiting, slots.removed) == ((), ("B",))

    spans = slots.spans["B"]
    assert len(spans) == 100
    assert spans[-3:] == (
        (us(60 * 235), us(60 * 236 + 5)),
        (us(60 * 237), us(60 * 238 + 5)),
        (us(60 * 239), None),
    )
    # The oldest count as one, from before the first.
    assert spans[0] == (0, us(60 * 42 + 5))
    assert spans[1] == (us(60 * 43), us(60 * 44 + 5))


def test_what_a_feed_refuses_of_what_was_added_stays_without_a_slot():
    slots = asked("A")
    slots.check(5.0, us)
    slots.changed(("A",), ("A", "B", "C"), us(60))
    slots.asked(("B", "C"), 60.0)
    slots.sent(60.0)
    slots.told(message_of(TOO_MANY))
    with capture_logs() as events:
        slots.check(65.0, us)

    assert slots.spans == {"B": ((0, us(65)),), "C": ((0, None),)}
    assert [(e["event"], e["symbols"]) for e in events] == [("symbols_without_slot", "C")]


def test_after_a_restart_what_was_removed_stays_so_until_it_is_asked_for_again():
    slots = SymbolSlots()
    slots.goes_on_from(("B",), {"B": ((us(10), None),)})
    slots.changed(("A", "C"), ("A", "B", "D"), us(100))

    assert slots.removed == ("C",)
    assert set(slots.waiting) == {"B", "D"}
    slots.asked(("A", "B", "D"), 120.0)
    slots.sent(120.0)
    slots.check(125.0, us)

    assert slots.spans == {
        "B": ((us(10), us(125)),),
        "C": ((us(100), None),),
        "D": ((0, us(125)),),
    }
