"""What the live view lets a trade update, against the table of sale conditions."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import product

import pytest

from tapeline.live.eligibility import Rules, rules_of, sets_prices_at
from tapeline.model.conditions import ConditionPolicy
from tapeline.model.times import to_millis
from tests.condition_table import ROWS

REGULAR = Rules(sets_high_low=True, sets_last=True, adds_volume=True, only_at_night=False)
FORM_T = REGULAR._replace(only_at_night=True)
POLICIES = list(ConditionPolicy)


def by_table(ids: tuple[str, ...], policy: ConditionPolicy) -> Rules:
    """One "no" among them disqualifies; an odd lot is a "no" of `sip` alone."""
    rows = [row for row in ROWS if row[0] in ids]
    adds_volume = all(volume == "Y" for *_, volume in rows)
    if policy is ConditionPolicy.ALL:
        return REGULAR._replace(adds_volume=adds_volume)
    if policy is ConditionPolicy.SIP_ODDLOT:
        rows = [row for row in rows if row[0] != "12"]
    return Rules(
        sets_high_low=all(high_low != "N" for _, high_low, *_ in rows),
        sets_last=all(last != "N" for _, _, last, _ in rows),
        adds_volume=adds_volume,
        only_at_night=any(high_low == "X" for _, high_low, *_ in rows),
    )


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("none", [None, ()])
def test_a_trade_without_conditions_updates_all_of_its_bar(none, policy):
    assert rules_of(none, policy) == REGULAR


@pytest.mark.parametrize("policy", POLICIES)
def test_one_condition_or_two_of_them_allow_what_the_table_says(policy):
    ids = [row[0] for row in ROWS]
    for one in ids:
        assert rules_of((one,), policy) == by_table((one,), policy), one
    for both in product(ids, ids):
        assert rules_of(both, policy) == by_table(both, policy), both


def test_an_unknown_condition_sets_no_price_and_adds_its_volume():
    unpriced = REGULAR._replace(sets_high_low=False, sets_last=False)
    for policy in (ConditionPolicy.SIP, ConditionPolicy.SIP_ODDLOT):
        assert rules_of(("99",), policy) == rules_of(("1", "99"), policy) == unpriced
    assert rules_of(("99",), ConditionPolicy.ALL) == REGULAR


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
    assert sets_prices_at(FORM_T, time_ms) is may_form_t
    assert sets_prices_at(REGULAR, time_ms)
