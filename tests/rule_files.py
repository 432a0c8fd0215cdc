"""Files of rules: the made-up vendors of tests/data, and random ones."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any, Final

from tapeline.model.rules import FIELDS, SESSIONS, Rules
from tapeline.program.rule_file import read_policy

DATA: Final = Path(__file__).parent / "data"
TAPE_HOUSE: Final = DATA / "tape-house.rules.json"
ROUND_LOTS: Final = DATA / "round-lots.rules.json"
LAST_CLOSE: Final = DATA / "last-close.rules.json"

ODD_TEXTS: Final = (
    "T",
    "@",
    "it's",
    "a\\b",
    '"',
    "${x}",
    "{condition}",
    "ÄÖ",
    "--",
    "a b",
    "\\u0041",
)
"""Conditions as a vendor may write them, some of which mean something to SQL."""


def rules_of(content: dict[str, Any]) -> Rules:
    """Return the rules of a file of some content."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        return read_policy(file.name)


def random_rules(seed: int, conditions: list[str]) -> Rules:
    """Return the rules of a random file, which names some of the conditions."""
    chance = random.Random(seed)  # noqa: S311 - no secret

    def fields() -> list[str]:
        return chance.sample(sorted(FIELDS), chance.choice((0, 1, 1, 2, 2, 3)))

    def some_sessions() -> list[str]:
        return chance.sample([s.value for s in SESSIONS], chance.randint(1, len(SESSIONS)))

    content: dict[str, Any] = {"name": "random", "unknown": fields(), "conditions": {}}
    for condition in chance.sample(conditions, chance.randint(0, len(conditions))):
        rule: dict[str, Any] = {"not": fields()}
        if chance.random() < 0.3:
            rule["sessions"] = some_sessions()
        content["conditions"][condition] = rule
    if chance.random() < 0.5:
        content["sessions"] = {session: fields() for session in some_sessions()}
    if chance.random() < 0.6:
        size = chance.choice((1, 100, 0.3, 1e-9, 1.6e-10, 1e15))
        content["below_size"] = {"size": size, "not": fields()}
    return rules_of(content)
