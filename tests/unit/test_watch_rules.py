"""Rules of `tapeline watch`: what each text means, and what is said of one that is none."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.client.bars import StreamedBar
from tapeline.model.errors import UsageError
from tapeline.watch.rules import FIELDS, SIGNS, Comparison, Kind, Rule, check_together, parse_rule
from tapeline.watch.rules_file import read_rules

START = datetime(2026, 11, 20, 14, 35, tzinfo=timezone.utc)
HIGH = Comparison("high", ">=", 300.0)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("AAPL close > 280", (Kind.PRICE, ("AAPL",), "5m", Comparison("close", ">", 280.0))),
        ("AAPL close>280", (Kind.PRICE, ("AAPL",), "5m", Comparison("close", ">", 280.0))),
        ("MSFT, AAPL 1h high >= 300", (Kind.PRICE, ("AAPL", "MSFT"), "1h", HIGH)),
        ("AAPL low <= -1.5e-3", (Kind.PRICE, ("AAPL",), "5m", Comparison("low", "<=", -0.0015))),
        ("BINANCE:BTCUSDT final", (Kind.FINAL, ("BINANCE:BTCUSDT",), "5m", None)),
        (
            "AAPL 1d final volume > 1e6",
            (Kind.FINAL, ("AAPL",), "1d", Comparison("volume", ">", 1e6)),
        ),
        ("AAPL,AAPL gap", (Kind.GAP, ("AAPL",), None, None)),
        ("gap", (Kind.GAP, (), None, None)),
        ("AAPL silent", (Kind.SILENT, ("AAPL",), None, None)),
        ("feed", (Kind.FEED, (), None, None)),
        ("gap gap", (Kind.GAP, ("gap",), None, None)),
    ],
)
def test_a_rule_means(text, rule):
    assert parse_rule(text, "mine") == Rule("mine", *rule)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no symbol or nothing to wait for"),
        ("AAPL", "names no symbol or nothing to wait for"),
        ("final", "names no symbol or nothing to wait for"),
        (", final", "names no symbol"),
        (
            "AAPL price > 280",
            "'price' is no field of a bar: give open, high, low, close, vwap, vol",
        ),
        ("AAPL close => 280", "'=>' is no sign: give >, >=, <, <="),
        ("AAPL close == 280", "'==' is no sign"),
        ("AAPL close 280", "'close 280' is no comparison"),
        ("AAPL close > 280 now", "'close > 280 now' is no comparison"),
        ("AAPL 5m", "'' is no comparison"),
        ("AAPL final close", "'close' is no comparison"),
        ("AAPL close > nan", "'nan' is no number such as 280"),
        ("AAPL close > inf", "'inf' is no number"),
        ("AAPL close > 1e999", "'1e999' is no number"),
        ("AAPL close > 1_000", "'1_000' is no number"),
        ("AAPL 7m final", "'7m' is no interval"),
        ("AAPL 5m gap", "'gap' is of no interval: leave out '5m'"),
        ("A;B final", "'A;B' is not a valid symbol"),
    ],
)
def test_what_is_no_rule_is_named_with_what_to_write_instead(text, said):
    with pytest.raises(UsageError) as refused:
        parse_rule(text, "mine")
    assert str(refused.value).startswith("Rule 'mine' is not valid: ")
    assert said in str(refused.value)
    assert "Write one such as `AAPL close > 280`" in str(refused.value)


WORDS = st.sampled_from(["AAPL", "A,B", "5m", "9m", "final", "gap", "close", ">", "<=", "280", "x"])


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=7).map(" ".join)))
def test_any_text_is_a_rule_or_a_sentence(text):
    try:
        rule = parse_rule(text)
    except UsageError as error:
        said = str(error)
        assert "Write one such as" in said, said
    else:
        assert parse_rule(rule.name) == rule


@given(
    st.sampled_from(FIELDS),
    st.sampled_from(sorted(SIGNS)),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.sampled_from(["", " ", "   "]),
)
def test_a_comparison_is_read_as_it_was_meant_and_written_in_one_way(
    field, sign, number, is_final, blanks
):
    final = "final " if is_final else ""
    rule = parse_rule(f"AAPL 15m {final}{field}{blanks}{sign}{blanks}{number!r}")
    assert rule.comparison is not None
    assert (rule.comparison.field, rule.comparison.sign) == (field, sign)
    assert rule.comparison.number == number
    again = parse_rule(f"AAPL {rule.key}")
    assert (again.key, again.comparison) == (rule.key, rule.comparison)


def bar(**changes):
    fields = {
        "symbol": "AAPL",
        "interval": "5m",
        "window_start": START,
        "window_end": START + timedelta(minutes=5),
        "open": 1.0,
        "high": 3.0,
        "low": 0.5,
        "close": 2.0,
        "volume": 10.5,
        "vwap": 2.0,
        "trade_count": 4,
        "is_final": True,
        "is_complete": True,
        "revision": 1,
        "session": "regular",
    }
    return StreamedBar(**{**fields, **changes})


@pytest.mark.parametrize(
    ("sign", "numbers"),
    [
        (">", {1.9: True, 2.0: False, 2.1: False}),
        (">=", {1.9: True, 2.0: True, 2.1: False}),
        ("<", {1.9: False, 2.0: False, 2.1: True}),
        ("<=", {1.9: False, 2.0: True, 2.1: True}),
    ],
)
def test_a_close_of_two_is_compared(sign, numbers):
    holds = {number: Comparison("close", sign, number).holds(bar()) for number in numbers}
    assert holds == numbers


def test_a_bar_without_a_price_neither_fulfils_nor_fails():
    assert Comparison("close", ">", -math.inf).holds(bar(close=None)) is None


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "There is no rule: give one with --when or --rules"),
        (["AAPL close > 280", "AAPL  close > 280"], "Two rules are called 'AAPL close > 280'"),
        (
            ["AAPL close > 280", "MSFT,AAPL close>280.0"],
            "'AAPL close > 280' and 'MSFT,AAPL close>280.0' both tell 'AAPL 5m close > 280'",
        ),
        (["gap", "gap "], "Two rules are called 'gap'"),
        (
            [f"{','.join(f'S{n}' for n in range(501))} final"],
            "name 501 symbols of 5m bars, and 500",
        ),
    ],
)
def test_rules_that_cannot_be_watched_together_are_named(texts, said):
    with pytest.raises(UsageError) as refused:
        check_together(parse_rule(text) for text in texts)
    assert said in str(refused.value)


def write(folder: Path, text: str) -> Path:
    file = folder / "rules.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_holds_rules_with_and_without_names(tmp_path):
    file = write(
        tmp_path,
        '[[rule]]\nname = "apple-high"\nwhen = "AAPL close > 280"\n\n[[rule]]\nwhen = "gap"\n',
    )
    assert [(rule.name, rule.key) for rule in read_rules(file)] == [
        ("apple-high", "5m close > 280"),
        ("gap", "gap"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no [[rule]]. One looks like this"),
        ("rule = 3", "holds no [[rule]]"),
        ("rule = [3]", "Rule 1 of"),
        ("[[rules]]", "holds 'rules', and only tables [[rule]] stand in it"),
        ("[[rule]", "is not TOML in UTF-8"),
        ("[[rule]]\nname = 'x'", "'x', has no text `when`: write one such as"),
        ("[[rule]]\nwhen = 280", "has no text `when`"),
        ("[[rule]]\nname = ''\nwhen = 'gap'", "has a name that is none"),
        ("[[rule]]\nwhen = 'gap'\nwhere = 'here'", "holds 'where': give `when`"),
        ("[[rule]]\nwhen='gap'\n[[rule]]\nname='x'\nwhen='AAPL'", "Rule 'x' is not valid"),
    ],
)
def test_a_file_of_something_else_is_a_sentence(tmp_path, text, said):
    with pytest.raises(UsageError) as refused:
        read_rules(write(tmp_path, text))
    assert said in str(refused.value)
