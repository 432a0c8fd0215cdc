"""What a trade may update without Spark, against the table of sale conditions."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import product

import pytest

from tapeline.model.conditions import ALL, SHIPPED, SIP, SIP_ODDLOT
from tapeline.model.eligibility import Withheld, by_conditions, session_asked, withheld
from tapeline.model.rules import HIGH_LOW, OPEN_CLOSE, PRICES, VOLUME, Rules
from tapeline.model.times import to_millis
from tapeline.model.trade import Trade
from tests.condition_table import ROWS
from tests.rule_files import rules_of

NOTHING = Withheld(0, 0)
POLICIES = pytest.mark.parametrize("policy", SHIPPED.values(), ids=str)


def by_table(ids: tuple[str, ...], policy: Rules) -> Withheld:
    """One "no" among them disqualifies; an odd lot is a "no" of `sip` alone."""
    rows = [row for row in ROWS if row[0] in ids]
    bits = VOLUME if any(volume == "N" for *_, volume in rows) else 0
    if policy is ALL:
        return Withheld(bits)
    if policy is SIP_ODDLOT:
        rows = [row for row in rows if row[0] != "12"]
    bits |= HIGH_LOW if any(high_low == "N" for _, high_low, *_ in rows) else 0
    bits |= OPEN_CLOSE if any(last == "N" for _, _, last, _ in rows) else 0
    return Withheld(bits, PRICES if any(high_low == "X" for _, high_low, *_ in rows) else 0)


@POLICIES
@pytest.mark.parametrize("none", [None, ()])
def test_a_trade_without_conditions_updates_all_of_its_bar(none, policy):
    assert by_conditions(none, policy, None) == NOTHING


@POLICIES
def test_one_condition_or_two_of_them_allow_what_the_table_says(policy):
    ids = [row[0] for row in ROWS]
    for one in ids:
        assert by_conditions((one,), policy, None) == by_table((one,), policy), one
    for both in product(ids, ids):
        assert by_conditions(both, policy, None) == by_table(both, policy), both


def test_an_unknown_condition_sets_no_price_and_adds_its_volume():
    for policy in (SIP, SIP_ODDLOT):
        assert by_conditions(("99",), policy, None) == Withheld(PRICES)
        assert by_conditions(("1", "99"), policy, None) == Withheld(PRICES)
    assert by_conditions(("99",), ALL, None) == NOTHING


@POLICIES
def test_shipped_rules_ask_no_session_of_a_bar(policy):
    assert session_asked(policy, "AAPL", 0) is None
    assert len(policy.variants) == 1


@pytest.mark.parametrize(
    ("time", "may_form_t"),
    [
        ("2026-11-20T14:29:59.999", True),  # a minute before 09:30 in New York
        ("2026-11-20T14:30:00.000", False),
        ("2026-11-20T20:59:59.999", False),
        ("2026-11-20T21:00:00.000", True),
        ("2026-11-27T17:59:59.999", False),  # a half day, to 13:00
        ("2026-11-27T18:00:00.000", True),
        ("2026-11-21T15:00:00.000", True),  # a Saturday
    ],
)
def test_a_form_t_trade_sets_prices_outside_regular_hours_only(time, may_form_t):
    time_ms = to_millis(datetime.fromisoformat(time).replace(tzinfo=timezone.utc))
    for symbol in ("AAPL", "VOD.L", "BINANCE:BTCUSDT"):  # New York's hours, whatever the symbol
        trade = Trade(symbol, 1.0, 1.0, time_ms, ("24",), 1, 1, 0, "test")
        assert withheld(trade, SIP, None) == (0 if may_form_t else PRICES)
        assert withheld(trade, ALL, None) == 0


@pytest.mark.parametrize(
    ("volume", "is_small"),
    [(0.0, False), (1e-8, True), (0.5, True), (1.0, True), (99.5, True), (100.0, False)],
)
def test_a_trade_below_the_size_of_the_rules_is_withheld_and_one_of_no_size_is_not_small(
    volume, is_small
):
    rules = rules_of(
        {"name": "lots", "unknown": [], "below_size": {"size": 100, "not": ["high_low"]}}
    )
    trade = Trade("AAPL", 1.0, volume, 0, None, 1, 1, 0, "test")
    assert withheld(trade, rules, None) == (HIGH_LOW if is_small else 0)
