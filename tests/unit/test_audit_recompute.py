"""The second way to a bar, on bars that were worked out by hand (docs/bars.md)."""

from __future__ import annotations

import math
import random
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from tapeline.audit.recompute import recompute_bars
from tapeline.model.bar import VALUES
from tapeline.model.conditions import SHIPPED, SIP
from tapeline.model.errors import AuditError
from tests.audit_rows import KEY, START, START_MS, a_trade, frame


def bar_of(*trades: dict[str, Any], policy: str = "sip") -> dict[str, Any]:
    """Return the bar of trades of one window."""
    rows = frame(*trades)
    bars = recompute_bars(rows, {KEY: SHIPPED[policy]})
    return bars[KEY]


def prices_of(*trades: dict[str, Any], policy: str = "sip") -> tuple[float | None, ...]:
    bar = bar_of(*trades, policy=policy)
    return bar["open"], bar["high"], bar["low"], bar["close"]


def at(ms: int, price: float, volume: float = 100.0, **changes: Any) -> dict[str, Any]:
    return a_trade(event_time_ms=START_MS + ms, trade_id=ms, price=price, volume=volume, **changes)


def test_a_bar_has_every_value() -> None:
    # 100 * 10.00 + 50 * 10.50 + 10 * 11.00 = 1,635
    bar = bar_of(at(1, 10.0), at(299_999, 10.5, 50.0), at(7, 11.0, 10.0, conditions="1\x1f12"))

    assert bar == {
        "open": 10.0,
        "high": 10.5,
        "low": 10.0,
        "close": 10.5,
        "volume": Decimal(160),
        "notional": Decimal(1635),
        "vwap": 1635 / 160,
        "trade_count": 3,
        "unpriced_count": 1,
        "unpriced_volume": Decimal(10),
        "first_trade_time": START.replace(microsecond=1000),
        "last_trade_time": datetime(2026, 11, 20, 15, 34, 59, 999000, tzinfo=timezone.utc),
        "session": "regular",
        "asset_class": "equity",
        "policy": "sip",
    }
    assert set(bar) == set(VALUES)


def test_open_and_close_are_decided_by_time_then_rank_then_the_low_bits_of_the_id() -> None:
    same_time = [
        at(5, 10.1, sequence=1),
        at(5, 10.2, sequence=0),
        at(5, 10.3, sequence=2) | {"trade_id": (1 << 40) + 5},
        at(5, 10.4, sequence=2) | {"trade_id": 6},
    ]

    assert prices_of(*same_time) == (10.2, 10.4, 10.1, 10.4)


@pytest.mark.parametrize(
    ("conditions", "policy", "sets_high_low", "sets_last", "volume"),
    [
        (None, "sip", True, True, 10),
        ("1", "sip", True, True, 10),
        ("1\x1f12", "sip", False, False, 10),
        ("1\x1f12", "sip+oddlot", True, True, 10),
        ("12\x1f3", "sip+oddlot", False, False, 10),
        ("30", "sip", True, False, 10),
        ("30", "all", True, True, 10),
        ("3", "sip", False, False, 10),
        ("3", "all", True, True, 10),
        ("24", "sip", False, False, 10),  # Form T at 10:30 in New York
        ("24", "all", True, True, 10),
        ("16", "sip", False, False, 0),
        ("16", "all", True, True, 0),
        ("39", "sip", True, True, 0),
        ("99", "sip+oddlot", False, False, 10),
    ],
)
def test_conditions_say_what_a_trade_may_update(
    conditions: str | None, policy: str, *, sets_high_low: bool, sets_last: bool, volume: int
) -> None:
    bar = bar_of(at(1, 10.0, 5.0), at(2, 12.0, 10.0, conditions=conditions), policy=policy)

    assert bar["high"] == (12.0 if sets_high_low else 10.0)
    assert bar["close"] == (12.0 if sets_last else 10.0)
    assert bar["volume"] == 5 + volume
    assert bar["unpriced_count"] == (0 if sets_high_low else 1)
    assert bar["unpriced_volume"] == (0 if sets_high_low else volume)
    assert bar["trade_count"] == 2


@pytest.mark.parametrize(
    ("time", "is_priced"),
    [
        ("2026-11-20T14:29:59.999", True),  # 09:29:59.999 in New York, winter time
        ("2026-11-20T14:30", False),
        ("2026-11-20T20:59:59.999", False),
        ("2026-11-20T21:00", True),
        ("2026-07-01T13:30", False),  # 09:30 in summer time
        ("2026-07-01T13:29:59.999", True),
        ("2026-11-27T17:59:59.999", False),  # the half day after Thanksgiving ends at 13:00
        ("2026-11-27T18:00", True),
        ("2026-11-26T15:30", True),  # Thanksgiving
        ("2026-11-21T15:30", True),  # a Saturday
    ],
)
def test_form_t_sets_prices_outside_regular_hours_only(time: str, *, is_priced: bool) -> None:
    instant = datetime.fromisoformat(time).replace(tzinfo=timezone.utc)
    ms = round(instant.timestamp() * 1000)
    bucket_ms = ms - ms % 300_000
    window = datetime.fromtimestamp(bucket_ms / 1000, timezone.utc)
    trade = a_trade(bucket_ms=bucket_ms, event_time_ms=ms, conditions="24")

    bar = recompute_bars(frame(trade), {("AAPL", window): SIP})["AAPL", window]

    assert (bar["open"] is not None) == is_priced


def test_a_window_whose_trades_set_no_price_keeps_its_volume() -> None:
    odd_lot = at(1, 12.0, 5.0, conditions="12")

    assert prices_of(odd_lot) == (None, None, None, None)
    assert (bar_of(odd_lot)["volume"], bar_of(odd_lot)["vwap"]) == (Decimal(5), 12.0)


def test_a_size_of_0_sets_prices_and_adds_nothing() -> None:
    bar = bar_of(at(1, 10.0, 0.0))

    assert (bar["open"], bar["volume"], bar["notional"], bar["vwap"]) == (10.0, 0, 0, None)
    assert bar["trade_count"] == 1


def test_amounts_are_exact_decimals_to_ten_places() -> None:
    # 0.1 + 0.2 is 0.3; 0.1 * 3.3 + 0.2 * 3.3 is 0.99.
    bar = bar_of(at(1, 3.3, 0.1), at(2, 3.3, 0.2))
    assert (bar["volume"], bar["notional"]) == (Decimal("0.3"), Decimal("0.99"))
    # 0.12345 * 0.0000012345 = 0.000000152399025, rounded once to ten places.
    tiny = bar_of(at(1, 0.12345, 0.0000012345))
    assert (tiny["volume"], tiny["notional"]) == (Decimal("0.0000012345"), Decimal("1.524E-7"))
    # The product is rounded, not the price: 1.6743e-9 * 1e9 = 1.6743.
    coin = bar_of(at(1, 1.6743e-09, 1e9), at(2, 1.6743e-09, 2e9))
    assert coin["notional"] == Decimal("5.0229")
    assert coin["vwap"] == pytest.approx(1.6743e-09, rel=1e-15)
    # A half is rounded up: 0.5 * 0.0000000001 is 0.00000000005.
    assert bar_of(at(1, 0.5, 1e-10))["notional"] == Decimal("1E-10")
    # Far more digits than a double has.
    large = bar_of(at(1, 123456.789, 901_234_567.891), at(2, 1.0, 1e-10))
    assert large["volume"] == Decimal("901234567.8910000001")
    assert large["notional"] == Decimal("111263525887625.3619990001")


AWKWARD = [
    *(0.1 + 0.2, 1.005, 7.89e-06, 1.6743e-09, 123456789.123456789, 5e-11, 4.9e-11, 9.8e-12, 5e-324),
    *(0.00000000015, 2.675, 999_999_999_999.9999, 100.0, 1e-10, 0.12345678905),
]


def units(number: Fraction, places: int = 10) -> int:
    """Return a number rounded half up, as a count of its last place."""
    return math.floor(number * 10**places + Fraction(1, 2))


def test_amounts_of_awkward_and_random_prices_are_those_of_exact_fractions() -> None:
    chance = random.Random(7)  # noqa: S311 - no secret
    numbers = AWKWARD + [
        round(chance.uniform(0, 10 ** chance.randint(-11, 11)), chance.randint(0, 17))
        for _ in range(400)
    ]
    pairs = [(chance.choice(numbers) or 1.0, chance.choice(numbers)) for _ in range(2000)]

    bar = bar_of(*(at(n, *pair) for n, pair in enumerate(pairs)))

    # What a text says is the number that was sent; a place of the sum is 1e-10.
    sent = [(units(Fraction(repr(p)), 26), units(Fraction(repr(s)))) for p, s in pairs]
    volume = sum(size for _, size in sent)
    notional = sum(units(Fraction(price * size, 10**36)) for price, size in sent)
    assert Fraction(bar["volume"]) == Fraction(volume, 10**10)
    assert Fraction(bar["notional"]) == Fraction(notional, 10**10)


# 9e11 * 9.9e14 = 8.91e26: twelve are above 1e28, twenty above what 128 bits hold.
@pytest.mark.parametrize("trades", [12, 20])
def test_a_sum_that_no_decimal_holds_is_an_error(trades: int) -> None:
    eleven = bar_of(*(at(n, 9e11, 9.9e14) for n in range(11)))
    assert eleven["notional"] == 11 * Decimal("8.91e26")

    with pytest.raises(AuditError, match="more than decimal"):
        bar_of(*(at(n, 9e11, 9.9e14) for n in range(trades)))


@pytest.mark.parametrize("price", [math.nan, math.inf, 1e300, 1e29])
def test_a_price_that_no_decimal_holds_is_an_error(price: float) -> None:
    with pytest.raises(AuditError, match="no decimal"):
        bar_of(at(1, 10.0), at(2, price))


def test_symbols_with_a_venue_have_their_own_class_and_no_sessions() -> None:
    for symbol, asset_class in (("BINANCE:BTCUSDT", "crypto"), ("OANDA:EUR_USD", "fx")):
        rows = frame(a_trade(symbol=symbol))
        bar = recompute_bars(rows, {(symbol, START): SIP})[symbol, START]
        assert (bar["session"], bar["asset_class"]) == ("continuous", asset_class)


def test_a_trade_that_lacks_a_value_counts_for_nothing() -> None:
    assert bar_of(at(1, 10.0), a_trade(trade_id=9, price=None))["trade_count"] == 1
    assert recompute_bars(frame(a_trade(volume=None)), {KEY: SIP}) == {}
