"""`bar_policy`: by which rules the bars of a keyspace are made, and how they are read."""

from __future__ import annotations

import json
import time
from functools import reduce
from operator import or_
from typing import Final

from tapeline.model.bar import Interval
from tapeline.model.conditions import SHIPPED
from tapeline.model.errors import UsageError
from tapeline.model.rules import PLAIN, ReadingRules, Rules
from tapeline.program.service_settings import CassandraSettings
from tapeline.storage.bar_rows import GOLD_TABLES
from tapeline.storage.connection import Connection

_OF_BARS: Final = "bars"
"""The row of the keyspace; each policy that says how bars are read has one too."""

_REMEMBERED_S: Final = 5.0
"""Less than it takes until a rebuild by other rules has made its first bar."""


class PolicyTable(Connection):
    """Reads and writes the policy of a keyspace."""

    def __init__(self, settings: CassandraSettings, host: str, port: int) -> None:
        super().__init__(settings, host, port)
        self._reading_rules: dict[str, ReadingRules] = {}
        self._all_rules = PLAIN
        self._read_rules_at_s = -_REMEMBERED_S

    def policy_of_bars(self) -> str | None:
        """Return by which policy bars are made; None where there is no bar.

        A keyspace of an earlier version does not say it: one of its bars does.
        """
        query = "SELECT policy FROM {keyspace}.bar_policy WHERE part = ?"
        row = self.rows(query, (_OF_BARS,)).one()
        return self._policy_of_a_bar() if row is None else str(row.policy)

    def claim_policy(self, rules: Rules) -> None:
        """Remember by which rules bars are made, if these are they or there is no bar yet.

        Raises:
            UsageError: bars are made by others, and two policies are not to be mixed.
        """
        stored = self.policy_of_bars()
        if stored not in {None, rules.name} and self._policy_of_a_bar() is not None:
            name = "FILE" if stored not in SHIPPED else stored
            message = (
                f"Keyspace {self.keyspace} has bars of policy {stored}, and {rules.name} was asked "
                f"for: keep them with --policy {name}, or first make them again with "
                f"`tapeline rebuild gold --keyspace {self.keyspace} --policy {rules.option}`."
            )
            raise UsageError(message)
        self.write_policy(rules)

    def write_policy(self, rules: Rules) -> None:
        """Remember by which rules bars are made from now on."""
        self.write_reading_rules(rules)
        query = "INSERT INTO {keyspace}.bar_policy (part, policy) VALUES (?, ?)"
        self.rows(query, (_OF_BARS, rules.name))

    def write_reading_rules(self, rules: Rules) -> None:
        """Remember how bars of a policy are read; to be done before the first of them."""
        if rules.reading != PLAIN:
            query = "INSERT INTO {keyspace}.bar_policy (part, policy, reading) VALUES (?, ?, ?)"
            text = json.dumps(rules.reading._asdict())
            self.rows(query, (rules.name, rules.name, text))

    def reads_by_rules(self) -> ReadingRules:
        """Return what any policy of the keyspace asks of readers, as of the last seconds."""
        now_s = time.monotonic()
        if now_s - self._read_rules_at_s > _REMEMBERED_S:
            texts = [r.reading for r in self.rows("SELECT reading FROM {keyspace}.bar_policy")]
            found = [ReadingRules(**json.loads(text)) for text in texts if text is not None]
            self._all_rules = ReadingRules(
                any(rules.carry_open for rules in found),
                reduce(or_, (rules.all_day for rules in found), 0),
            )
            self._read_rules_at_s = now_s
        return self._all_rules

    def reading_rules(self, policy: str | None) -> ReadingRules:
        """Return how bars of a policy are read; what was asked for once is remembered."""
        if policy is None or policy in SHIPPED:
            return PLAIN
        found = self._reading_rules.get(policy)
        if found is None:
            query = "SELECT reading FROM {keyspace}.bar_policy WHERE part = ?"
            row = self.rows(query, (policy,)).one()
            text = "{}" if row is None or row.reading is None else row.reading
            found = self._reading_rules[policy] = ReadingRules(**json.loads(text))
        return found

    def _policy_of_a_bar(self) -> str | None:
        table = GOLD_TABLES[Interval.FIVE_MINUTES]
        row = self.rows(f"SELECT policy FROM {{keyspace}}.{table} LIMIT 1").one()
        return None if row is None else row.policy
