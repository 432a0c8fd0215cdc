"""Lists of symbols: one reading for every command."""

from __future__ import annotations

import pytest

from tapeline.model.errors import UsageError
from tapeline.model.symbols import parse_symbols, selected_symbols, some_of


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("AAPL", ("AAPL",)),
        ("AAPL, MSFT", ("AAPL", "MSFT")),
        (" MSFT ,,AAPL,", ("MSFT", "AAPL")),
        ("AAPL,MSFT,AAPL", ("AAPL", "MSFT")),
        ("AAPL,\tMSFT\n", ("AAPL", "MSFT")),
        ("IC MARKETS:1, OANDA:EUR_USD", ("IC MARKETS:1", "OANDA:EUR_USD")),
    ],
)
def test_names_are_read_without_the_blanks_around_them_each_once(text, names):
    assert parse_symbols(text) == names
    assert selected_symbols(text) == frozenset(names)


@pytest.mark.parametrize("text", ["", ",", "  ", " , ,"])
def test_a_list_without_a_name_is_an_error_and_not_everything(text):
    for read in (parse_symbols, selected_symbols):
        with pytest.raises(UsageError, match="names no symbol"):
            read(text)


@pytest.mark.parametrize("name", ["AAPL;MSFT", "A" * 129, "AA\tPL"])
def test_a_name_that_no_symbol_has_is_an_error_unless_it_is_a_tapes(name):
    with pytest.raises(UsageError, match="is not a valid symbol"):
        parse_symbols(f"KO,{name}")
    assert parse_symbols(f"KO,{name}", any_name=True) == ("KO", name)


def test_no_list_is_every_symbol():
    assert selected_symbols(None) is None


def test_ten_names_are_said_and_how_many_more():
    assert some_of(["B", "A"]) == "A, B"
    assert some_of([f"S{n:02}" for n in range(12)]).endswith("S09 and 2 more")
