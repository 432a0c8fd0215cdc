"""The sets of conditions against the table of what a trade may update.

The table is written out from the project's facts on Finnhub's ids (by name from the CTS and
UTP specifications): id, high/low, last (open and close), volume; X outside regular hours.
"""

from __future__ import annotations

import pytest

from tapeline.model import conditions
from tapeline.model.conditions import ConditionPolicy

TABLE = """
1  Y Y Y  Regular
2  Y Y Y  Acquisition
4  Y Y Y  Bunched
6  Y Y Y  Distribution
7  Y Y Y  Automatic Execution
8  Y Y Y  Intermarket Sweep
13 Y Y Y  Rule 127
14 Y Y Y  Rule 155
18 Y Y Y  MC Opening
19 Y Y Y  Opening Prints
23 Y Y Y  Split
28 Y Y Y  Cross
29 Y Y Y  Yellow Flag
31 Y Y Y  Stopped
33 Y Y Y
34 Y Y Y  Reopening
35 Y Y Y
36 Y Y Y  Closing
39 Y Y N  Corrected Consolidated Close
41 Y Y Y  Trade-Through Exempt
15 Y Y Y  Sold Last
9  Y N Y  Bunched Sold
21 Y N Y  Prior Reference
30 Y N Y  Sold Out of Sequence
32 Y N Y  Derivatively Priced
3  N N Y  Average Price
5  N N Y  Cash
10 N N Y  Price Variation
12 N N Y  Odd Lot
22 N N Y  Seller
26 N N Y  Contingent
37 N N Y  Qualified Contingent
17 N N Y  Next Day
11 N N Y  CAP Election
27 N N Y  Stock Option
38 N N Y  placeholder
40 N N Y  Opened
24 X X Y  Form T
25 X X Y  Extended Hours Out of Sequence
16 N N N  MC Official Close
20 N N N  MC Official Open
"""
ROWS = [tuple(line.split()[:4]) for line in TABLE.strip().splitlines()]


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
    assert [p.value for p in ConditionPolicy] == ["sip", "sip+oddlot", "all"]
