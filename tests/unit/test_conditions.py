"""The sets of conditions against the table of what a trade may update."""

from __future__ import annotations

import pytest

from tapeline.model import conditions
from tests.condition_table import ROWS


def test_the_table_holds_every_id_once_and_no_other_is_known():
    ids = [row[0] for row in ROWS]
    assert len(ids) == len(set(ids)) == 41
    assert set(ids) == conditions.KNOWN


@pytest.mark.parametrize(("condition", "high_low", "last", "volume"), ROWS)
def test_an_id_updates_what_the_table_says(condition, high_low, last, volume):
    is_no_price = condition in conditions.NO_PRICE or condition in conditions.NO_FIELD
    assert is_no_price == (high_low == "N")
    assert (is_no_price or condition in conditions.NO_LAST) == (last == "N")
    assert (condition in conditions.EXTENDED_HOURS) == (high_low == "X") == (last == "X")
    assert (condition in conditions.NO_VOLUME) == (volume == "N")


def test_no_id_has_two_rules_for_prices():
    sets = (
        conditions.REGULAR,
        conditions.NO_LAST,
        conditions.NO_PRICE,
        conditions.EXTENDED_HOURS,
        conditions.NO_FIELD,
    )
    assert sum(len(s) for s in sets) == len(conditions.KNOWN)


def test_the_odd_lot_is_finnhubs_12_and_not_polygons():
    assert conditions.ODD_LOT == "12"
    assert "24" in conditions.EXTENDED_HOURS


@pytest.mark.parametrize("condition", ["0", "42", "01", "", "@", "T"])
def test_other_ids_are_unknown(condition):
    assert condition not in conditions.KNOWN


def test_the_policies_have_the_names_of_the_command_line():
    assert list(conditions.SHIPPED) == ["sip", "sip+oddlot", "all"]
    assert [str(rules) for rules in conditions.SHIPPED.values()] == list(conditions.SHIPPED)
    assert all(rules.option == name for name, rules in conditions.SHIPPED.items())
