"""Hour bars against their five-minute bars."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from tapeline.audit.findings import NO_GOLD, Compared, Pair
from tapeline.audit.hour_check import compare_hours
from tapeline.model.bar import Bar, Interval
from tapeline.model.rollup import combined
from tests.audit_rows import a_baseline
from tests.sample import a_bar

HOUR = datetime(2026, 11, 20, 14, tzinfo=timezone.utc)
NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)

# 10.5 at 2.0 a bar, twice; the second opens where the first closed and goes to 4.0.
PARTS = [
    a_bar(window_start=HOUR + timedelta(minutes=35), is_final=True),
    a_bar(window_start=HOUR + timedelta(minutes=50), is_final=True, open=2.0, high=4.0, close=3.5),
]
WHOLE = a_bar(
    window_start=HOUR,
    is_final=True,
    open=1.0,
    high=4.0,
    low=0.5,
    close=3.5,
    volume=Decimal(21),
    notional=Decimal(42),
    vwap=2.0,
    trade_count=8,
    unpriced_count=2,
    unpriced_volume=Decimal(1),
    first_trade_time=HOUR + timedelta(minutes=35),
    last_trade_time=HOUR + timedelta(minutes=54),
)


def compare(parts: list[Bar], hours: list[Bar], **changes: Any) -> Compared:
    return compare_hours(parts, hours, a_baseline(started_at=NOW, **changes))


def texts(compared: Compared) -> list[tuple[str, str, str]]:
    return [(d.what, d.expected, d.found) for d in compared.differences]


def test_the_hour_that_the_parts_make_is_no_difference() -> None:
    assert compare(PARTS, [WHOLE]) == Compared(checked=1)


def a_random_hour(chance: random.Random) -> list[Bar]:
    """Return final bars of one hour: some without prices, some without volume, few or many."""
    parts = []
    for minute in sorted(chance.sample(range(0, 60, 5), chance.randint(1, 12))):
        start = HOUR + timedelta(minutes=minute)
        prices = dict.fromkeys(("open", "high", "low", "close"))
        if chance.random() < 0.5:
            prices = {name: chance.randint(1, 9) / 2 for name in prices}
        volume = Decimal(chance.choice([0, 0, 1, 7])) / 10
        parts.append(
            a_bar(
                window_start=start,
                is_final=True,
                **prices,
                volume=volume,
                notional=volume * chance.choice([1, 10**24]) + Decimal("1e-10"),
                session=chance.choice(["pre", "regular", None]),
            )
        )
    return parts


def test_hours_of_any_parts_are_those_that_the_stream_rolls_up() -> None:
    chance = random.Random(5)  # noqa: S311 - no secret
    for _ in range(300):
        parts = a_random_hour(chance)
        whole = replace(combined(parts, HOUR, HOUR + timedelta(hours=1)), is_final=True, revision=1)

        assert compare(parts, [whole]) == Compared(checked=1)


def test_an_hour_without_a_price_has_none() -> None:
    nothing = dict.fromkeys(("open", "high", "low", "close"))
    parts = [replace(part, **nothing) for part in PARTS]

    assert compare(parts, [replace(WHOLE, **nothing)]) == Compared(checked=1)
    assert texts(compare(parts, [replace(WHOLE, **{**nothing, "low": 0.5})])) == [
        ("low", "none", "0.5")
    ]


def test_an_hour_opens_and_closes_with_parts_that_have_a_price() -> None:
    before = a_bar(window_start=HOUR, is_final=True, open=None, close=None, volume=Decimal(0))
    after = replace(before, window_start=HOUR + timedelta(minutes=55))

    found = texts(compare([before, *PARTS, after], [WHOLE]))

    assert {what for what, _, _ in found}.isdisjoint({"open", "close", "volume"})
    assert ("trade_count", "16", "8") in found


def test_an_hour_of_two_sessions_is_mixed() -> None:
    parts = [replace(PARTS[0], session="pre"), PARTS[1]]

    assert texts(compare(parts, [WHOLE])) == [("session", "mixed", "regular")]


def test_a_value_that_differs_names_the_hour() -> None:
    compared = compare(PARTS, [replace(WHOLE, close=3.4, trade_count=9)])

    assert texts(compared) == [("close", "3.5", "3.4"), ("trade_count", "8", "9")]
    (close, _) = compared.differences
    assert (close.pair, close.window_start, close.interval) == (
        Pair.GOLD_HOURS,
        HOUR,
        Interval.ONE_HOUR,
    )


def test_an_hour_must_be_there_final_and_made_of_something() -> None:
    assert texts(compare(PARTS, [])) == [("bar", "final", "none")]
    assert texts(compare(PARTS, [replace(WHOLE, is_final=False)])) == [
        ("bar", "final", "provisional, and no finalizing is due")
    ]
    assert texts(compare([], [WHOLE])) == [
        ("bar", "none: the hour has no five-minute bar", "in gold")
    ]


def test_an_hour_that_may_still_change_is_not_compared() -> None:
    wrong = replace(WHOLE, high=99.0)
    provisional = [PARTS[0], replace(PARTS[1], is_final=False)]
    just_written = replace(wrong, updated_at=NOW + timedelta(seconds=1))

    assert compare(PARTS, [wrong], due_hours={("AAPL", HOUR)}) == Compared(not_yet=1)
    assert compare(provisional, [wrong]) == Compared(not_yet=1)
    assert compare(PARTS, [just_written]) == Compared(not_yet=1)
    assert len(compare(PARTS, [replace(wrong, updated_at=NOW)]).differences) == 1


def test_an_hour_whose_parts_may_have_expired_is_not_auditable() -> None:
    received = replace(WHOLE, first_received_at=HOUR)
    gone_ms = round(HOUR.timestamp() * 1000)

    compared = compare(PARTS[1:], [received], gold_gone_ms=gone_ms)

    assert compared == Compared(unaudited={NO_GOLD: {("AAPL", HOUR)}})
    assert len(compare(PARTS[1:], [received], gold_gone_ms=gone_ms - 1).differences) > 1


def test_an_hour_whose_parts_are_of_two_policies_says_so() -> None:
    revised = [PARTS[0], replace(PARTS[1], policy="sip")]

    assert compare(revised, [replace(WHOLE, policy="mixed")]) == Compared(checked=1)
    assert texts(compare(revised, [replace(WHOLE, policy="sip")])) == [("policy", "mixed", "sip")]
