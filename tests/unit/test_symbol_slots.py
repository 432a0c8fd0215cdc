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
    slots.told(message_of(TOO_MANY))
    slots.check(125.0, us)

    assert slots.waiting == ("D",)
    assert slots.spans == {"C": (0, 125 * SECOND), "D": (0, None)}


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

    assert slots.spans == {"B": (0, None)}


def test_refusals_are_taken_in_and_asked_for_again_though_the_hosts_clock_steps(monkeypatch):
    steady_s = [1_000.0]
    host_us = [1_763_649_000 * SECOND]
    monkeypatch.setattr("tapeline.model.times.time.time_ns", lambda: host_us[0] * 1000)
    client = FinnhubClient(
        FinnhubSettings(), SecretStr("t"), ("A", "B"), monotonic=lambda: steady_s[0]
    )
    client.stamp_us = us
    client.slots.asked(client.symbols, steady_s[0])
    client.slots.told(message_of(TOO_MANY))

    steady_s[0] += 5
    host_us[0] -= 3_600 * SECOND
    asyncio.run(client.look_after())

    assert client.slots.spans == {"B": (1_000 * SECOND, None)}
