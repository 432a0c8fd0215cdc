"""How bars by what was traded are asked for."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tapeline.model.read_interval import ReadInterval
from tapeline.model.sessions import Session
from tapeline.model.threshold import Measure, Threshold, parse_length


@pytest.mark.parametrize(
    ("text", "amount", "measure", "name"),
    [
        ("1000tick", "1000", Measure.TICK, "1000tick"),
        ("50000volume", "50000", Measure.VOLUME, "50000volume"),
        ("0.50volume", "0.5", Measure.VOLUME, "0.5volume"),
        ("1000000.0dollar", "1000000", Measure.DOLLAR, "1000000dollar"),
        ("0.0000000001dollar", "0.0000000001", Measure.DOLLAR, "0.0000000001dollar"),
    ],
)
def test_an_amount_and_what_is_measured(text, amount, measure, name):
    length = parse_length(text)
    assert length == Threshold(Decimal(amount), measure)
    assert length.name == name


@pytest.mark.parametrize("text", ["5m", "4h", "1d"])
def test_lengths_of_time_are_what_they_were(text):
    assert parse_length(text) == ReadInterval.parse(text)


@pytest.mark.parametrize("text", ["0tick", "0.5tick", "0.0volume", "0dollar"])
def test_nothing_and_parts_of_a_trade_are_refused(text):
    with pytest.raises(ValueError, match=r"above 0, such as 1000tick"):
        parse_length(text)


@pytest.mark.parametrize(
    "text", ["100ticks", "-1tick", "1e3tick", "٣tick", "tick", "0.00000000001volume", "7m", ""]
)
def test_what_is_neither_says_both_forms(text):
    with pytest.raises(ValueError, match=r"minutes that divide a day.*50000volume"):
        parse_length(text)


def test_one_session_alone():
    assert parse_length("5tick").of_session("regular") == Threshold(
        Decimal(5), Measure.TICK, Session.REGULAR
    )
    with pytest.raises(ValueError, match="'mixed' is no session: give pre, regular"):
        parse_length("5tick").of_session("mixed")
