"""Sale conditions without a rule: counted for every trade, logged once."""

from __future__ import annotations

from structlog.testing import capture_logs

from tapeline.producer.unknown_conditions import UnknownConditions
from tapeline.producer.validation import WireTrade


def trade(*conditions: str, symbol: str = "AAPL") -> WireTrade:
    return WireTrade(symbol, 1.0, 1.0, 1_710_513_000_000, conditions or None)


def test_known_conditions_and_none_are_not_counted():
    known = [trade(), trade("1"), trade("1", "12"), trade("24"), trade("16")]
    with capture_logs() as logs:
        assert UnknownConditions().count(known) == 0
        assert UnknownConditions().count([WireTrade("A", 1.0, 1.0, 1, ())]) == 0
    assert logs == []


def test_a_trade_counts_once_however_many_of_its_conditions_are_unknown():
    with capture_logs():
        assert UnknownConditions().count([trade("1", "99"), trade("98", "97"), trade("1")]) == 2


def test_each_unknown_id_is_logged_once_with_the_symbol_that_had_it():
    unknown = UnknownConditions()
    with capture_logs() as logs:
        assert unknown.count([trade("99"), trade("99", symbol="MSFT")]) == 2
        assert unknown.count([trade("1", "99"), trade("98", symbol="SPY")]) == 2
    assert logs == [
        {"event": "unknown_condition", "log_level": "warning", "id": "99", "symbol": "AAPL"},
        {"event": "unknown_condition", "log_level": "warning", "id": "98", "symbol": "SPY"},
    ]


def test_a_file_of_rules_names_its_own():
    unknown = UnknownConditions(["@", "T"])
    with capture_logs() as logs:
        assert unknown.count([trade("@", "T"), trade("1")]) == 1
    assert [entry["id"] for entry in logs] == ["1"]


def test_a_feed_of_nonsense_does_not_fill_the_log():
    unknown = UnknownConditions()
    with capture_logs() as logs:
        assert unknown.count(trade(f"x{i}") for i in range(5000)) == 5000
    assert len(logs) == 100
