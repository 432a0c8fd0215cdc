"""Files of rules: what they say, and what is said of those that are not valid."""

from __future__ import annotations

import json

import pytest

from tapeline.model.conditions import SHIPPED, SIP
from tapeline.model.errors import UsageError
from tapeline.model.rules import (
    HIGH_LOW,
    OPEN_CLOSE,
    PLAIN,
    PRICES,
    VOLUME,
    ConditionRule,
    ReadingRules,
    SizeRule,
)
from tapeline.model.sessions import Session
from tapeline.program.rule_file import read_policy
from tapeline.program.settings import load_settings
from tests.commands import fail
from tests.rule_files import LAST_CLOSE, ROUND_LOTS, TAPE_HOUSE, rules_of

MINIMAL = {"name": "mine"}
SESSIONS = "'pre', 'regular', 'post', 'overnight', 'closed', 'continuous' or 'unknown'"
SIZES = ("0", "-1", "NaN", "Infinity", "1e999", '"100"', "true", "null", "9" * 999)


def said_of(path, content) -> str:
    """Return what is said of a file that is refused, without its name."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_policy(str(path))
    start = f"The rules in {path} are not valid: "
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(start)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.json"


def test_a_file_is_compiled_to_bits():
    rules = read_policy(str(TAPE_HOUSE))
    assert rules.unknown == PRICES
    assert rules.conditions == {
        "@": ConditionRule(0),
        "I": ConditionRule(PRICES),
        "Q": ConditionRule(PRICES | VOLUME),
        "T": ConditionRule(PRICES, frozenset({Session.REGULAR})),
        "Z": ConditionRule(OPEN_CLOSE),
    }
    assert (rules.sessions, rules.below_size, rules.asks_new_york) == ({}, None, False)
    rules = read_policy(str(ROUND_LOTS))
    assert rules.sessions == dict.fromkeys((Session.PRE, Session.POST), PRICES | VOLUME)
    assert rules.below_size == SizeRule(100.0, PRICES)
    assert rules.option == str(ROUND_LOTS.resolve())


def test_what_is_done_on_reading_is_part_of_the_rules():
    rules = read_policy(str(LAST_CLOSE))
    assert rules.reading == ReadingRules(carry_open=True, all_day=VOLUME)
    assert rules_of(MINIMAL).reading == PLAIN
    whole = rules_of({**MINIMAL, "day": {"prices": "all", "volume": "all"}})
    assert whole.reading == ReadingRules(carry_open=False, all_day=PRICES | VOLUME)
    regular = {"carry_open": False, "day": {"prices": "regular", "volume": "regular"}}
    assert rules_of({**MINIMAL, **regular}).name == rules_of(MINIMAL).name


def test_shipped_rules_are_asked_for_by_name():
    assert {name: read_policy(name) for name in SHIPPED} == SHIPPED
    assert read_policy("sip") is SIP


def test_what_is_left_out_withholds_nothing_but_prices_of_unknown_conditions():
    rules = rules_of(MINIMAL)
    assert (rules.unknown, rules.conditions, rules.below_size) == (PRICES, {}, None)


def test_the_fingerprint_hangs_on_what_is_said_and_not_on_how():
    said = {
        "name": "mine",
        "unknown": ["open_close", "high_low"],
        "conditions": {"B": {"not": ["volume"]}, "A": {"sessions": ["pre"], "not": ["high_low"]}},
        "below_size": {"size": 100, "not": ["high_low", "volume"]},
    }
    otherwise = {
        "below_size": {"not": ["volume", "high_low", "volume"], "size": 100.0},
        "sessions": {"pre": []},
        "conditions": {
            "A": {"not": ["high_low"], "sessions": ["pre", "pre"]},
            "B": said["conditions"]["B"],
        },
        "unknown": ["high_low", "open_close"],
        "name": "mine",
    }
    assert rules_of(said) == rules_of(otherwise)
    assert hash(rules_of(said)) == hash(rules_of(otherwise))
    name, _, digits = rules_of(said).name.partition("@")
    assert (name, len(digits), set(digits) <= set("0123456789abcdef")) == ("mine", 10, True)


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": ["high_low"]},
        {"conditions": {"A": {}}},
        {"conditions": {"A": {"not": ["volume"]}}},
        {"conditions": {"A": {"not": ["volume"], "sessions": ["pre"]}}},
        {"sessions": {"pre": ["volume"]}},
        {"below_size": {"size": 1, "not": ["volume"]}},
        {"below_size": {"size": 2, "not": ["volume"]}},
        {"name": "other"},
        {"carry_open": True},
        {"day": {"volume": "all"}},
        {"day": {"prices": "all"}},
    ],
)
def test_other_rules_have_another_name(change):
    assert rules_of({**MINIMAL, **change}) != rules_of(MINIMAL)


def test_a_groups_of_sessions_in_which_the_same_holds_is_one_variant():
    both = {"not": ["high_low"], "sessions": ["regular"]}
    rules = rules_of({**MINIMAL, "conditions": {"T": both}, "sessions": {"pre": ["volume"]}})
    regular, pre = frozenset({Session.REGULAR}), frozenset({Session.PRE})
    assert set(rules.variants) >= {regular, pre}
    assert len(rules.variants) == 3
    assert rules.variants[rules.variant_of(Session.REGULAR)] == regular
    assert rules.in_session(Session.REGULAR) == {"T": ConditionRule(HIGH_LOW)}
    assert rules.in_session(Session.CONTINUOUS) == {"T": ConditionRule(0)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({**MINIMAL, "contitions": {}}, "'contitions' is no field of rules."),
        ({**MINIMAL, "conditions": {"T": {"no": []}}}, "'conditions.T.no' is no field of rules."),
        ({}, "'name' is missing."),
        ({**MINIMAL, "carry_open": 1}, "'carry_open': input should be a valid boolean."),
        (
            {**MINIMAL, "day": {"volume": "pre"}},
            "'day.volume' is 'pre', and can be 'regular' or 'all'.",
        ),
        ({**MINIMAL, "day": {"open": "all"}}, "'day.open' is no field of rules."),
        ({**MINIMAL, "below_size": {"size": 1}}, "'below_size.not' is missing."),
        (
            {**MINIMAL, "conditions": {"T": {"not": ["open"]}}},
            "'conditions.T.not.0' is 'open', and can be 'open_close', 'high_low' or 'volume'.",
        ),
        (
            {**MINIMAL, "sessions": {"lunch": []}},
            f"'sessions.lunch' is 'lunch', and can be {SESSIONS}.",
        ),
        (
            {**MINIMAL, "conditions": {"T": {"sessions": ["mixed"]}}},
            f"'conditions.T.sessions.0' is 'mixed', and can be {SESSIONS}.",
        ),
        ('{"name": "mine", "conditions": {"T": {}, "I": {}, "T": {}}}', "'T' stands twice."),
        ('{"name": "mine", "name": "yours"}', "'name' stands twice."),
        ("[1, 2", "it is not JSON: "),
        ("", "it is not JSON: "),
        ("[" * 100_000, "it is nested too deeply."),
        ({"name": "SIP"}, "the name 'SIP' is taken by rules that are shipped: give another one."),
        ({"name": "sip+oddlot"}, "the name 'sip+oddlot' is taken"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_in_one_sentence(path, content, said):
    assert said_of(path, content).startswith(said)


@pytest.mark.parametrize("name", ["", " ", "a b", "a@b", "-a", "ä", "a\n", "a" * 41, "a/b"])
def test_a_strange_name_is_refused(path, name):
    assert said_of(path, {"name": name}).startswith(f"{name!r} is no name: use letters, digits")


@pytest.mark.parametrize("condition", ["", " ", " T", "T ", "a\x1fb", "\n", "x" * 65])
def test_a_strange_condition_is_refused(path, condition):
    said = said_of(path, {**MINIMAL, "conditions": {condition: {}}})
    assert said.startswith(f"{condition!r} is no sale condition: give 1 to 64 characters")


@pytest.mark.parametrize("size", SIZES)
def test_a_size_that_is_not_positive_or_no_number_is_refused(path, size):
    content = f'{{"name": "mine", "below_size": {{"size": {size}, "not": []}}}}'
    assert said_of(path, content).startswith("'below_size.size'")


@pytest.mark.parametrize(
    "content",
    [
        *(1, None, [], "name", {**MINIMAL, "conditions": []}, {**MINIMAL, "unknown": None}),
        *({**MINIMAL, "sessions": {"pre": "volume"}}, {"name": 5}),
        {**MINIMAL, "conditions": {"T": {"not": ["volume"], "sessions": []}}},
        {**MINIMAL, "conditions": {str(n): {} for n in range(1001)}},
    ],
)
def test_any_other_shape_is_refused(path, content):
    said_of(path, json.dumps(content))


def test_bytes_that_are_no_text_are_refused(path):
    path.write_bytes(b'{"name": "\xff"}')
    with pytest.raises(UsageError, match=r"it is not text in UTF-8\.$"):
        read_policy(str(path))


@pytest.mark.parametrize(
    "text", ["spi", "", ".", "/nowhere/rules.json", "x" * 5000, "~nobody/x", "a\0b"]
)
def test_what_is_neither_a_name_nor_a_file_is_refused(text):
    with pytest.raises(UsageError) as caught:
        read_policy(text)
    assert str(caught.value) == (
        f"{text!r} is no policy: give sip, sip+oddlot, all or a file of rules."
    )


@pytest.mark.parametrize(
    "command",
    [("stream",), ("replay", "no.csv"), ("rebuild", "gold"), ("audit",), ("bars", "AAPL")],
    ids=lambda c: c[0],
)
def test_commands_refuse_a_file_before_anything_starts(path, command):
    path.write_text('{"name": "mine", "below_size": {"size": 0, "not": []}}')
    of_option = () if command[0] == "bars" else ("--policy", str(path))
    environment = {} if of_option else {"TAPELINE_STREAM__POLICY": str(path)}
    code, output = fail(*command, *of_option, environment=environment)
    said = f"he rules in {path} are not valid: 'below_size.size': input should be greater than 0."
    assert code == 2
    assert output.startswith("Error: The" if of_option else "Error: TAPELINE_STREAM__POLICY")
    assert output.strip().endswith(said)


def test_an_environment_may_name_a_file(path, monkeypatch):
    path.write_text('{"name": "mine"}')
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("TAPELINE_STREAM__POLICY", path.name)
    rules = load_settings().stream.policy
    assert (rules, rules.option) == (rules_of(MINIMAL), str(path))
