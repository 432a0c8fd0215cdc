"""`--speed` of the simulator."""

from __future__ import annotations

import pytest

from tapeline.model.errors import UsageError
from tapeline.simulator.main import parse_speed


@pytest.mark.parametrize(("text", "factor"), [("1", 1.0), ("60", 60.0), ("0.5", 0.5), ("1e3", 1e3)])
def test_a_number_is_how_many_times_real_time(text, factor):
    assert parse_speed(text) == factor


def test_max_is_as_fast_as_the_client_reads():
    assert parse_speed("max") is None


@pytest.mark.parametrize(
    "text", ["0", "-1", "inf", "-inf", "nan", "1e9", "1e-9", "fast", "", "MAX"]
)
def test_anything_else_is_refused_and_named(text):
    with pytest.raises(UsageError) as caught:
        parse_speed(text)
    assert repr(text) in str(caught.value)
