"""Which trades make a bar's fields: rules as data, in one compiled form.

Spark, the live view and the audit each read this form in their own way. A field that one rule
withholds from a trade is withheld from it, whatever other rules say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from tapeline.model.sessions import Session

HIGH_LOW: Final = 1
OPEN_CLOSE: Final = 2
VOLUME: Final = 4
PRICES: Final = HIGH_LOW | OPEN_CLOSE

FIELDS: Final = {"open_close": OPEN_CLOSE, "high_low": HIGH_LOW, "volume": VOLUME}
"""The bit of each group of fields, by its name in a rule file."""

SESSIONS: Final[tuple[Session, ...]] = tuple(
    session for session in Session if session is not Session.MIXED
)
"""Those that a trade may be made in."""

OF_DAYS: Final = {"prices": PRICES, "volume": VOLUME}
"""The bits of what a rule file says of days, by its name there."""

MIXED_POLICY: Final = "mixed"
"""The policy of a longer bar whose parts were made by different ones."""

_FINGERPRINT_DIGITS: Final = 10


class ConditionRule(NamedTuple):
    """What a sale condition withholds, as bits; in some sessions only, or in all (None)."""

    withheld: int
    sessions: frozenset[Session] | None = None


class SizeRule(NamedTuple):
    """What is withheld from trades of less than a size; a size of 0 is a price update, not less."""

    size: float
    withheld: int


class ReadingRules(NamedTuple):
    """What hangs on other bars than the one that is made, and so is done when bars are read.

    Attributes:
        carry_open: each bar opens at the close before it, which counts for high and low too.
        all_day: the fields of a share's day, as bits, that all its trades make; the others are made
            by those of regular hours.
    """

    carry_open: bool = False
    all_day: int = 0


PLAIN: Final = ReadingRules()
"""Bars are read as they are, and a share's day is its regular hours."""


@dataclass(frozen=True)
class Rules:
    """Which trades may set and add to the fields of their bar.

    Attributes:
        name: what stands in a bar's `policy`: `sip`, or a file's name and fingerprint, `NAME@HEX`.
        option: what `--policy` takes for them: the name of shipped rules, or a path.
        conditions: what each sale condition that is known withholds, in the order of `in_order`.
        unknown: bits that any other condition withholds.
        sessions: bits that are withheld from every trade of a session.
        below_size: what is withheld from small trades.
        reading: what is done when bars are read.
        asks_new_york: the sessions of conditions are New York's, whatever the symbol. Else all
            sessions are those of the symbol's own market, as that of the bar.
    """

    name: str
    option: str = field(compare=False)
    conditions: Mapping[str, ConditionRule] = field(compare=False, repr=False)
    unknown: int = field(compare=False, repr=False)
    sessions: Mapping[Session, int] = field(compare=False, default_factory=dict, repr=False)
    below_size: SizeRule | None = field(compare=False, default=None, repr=False)
    reading: ReadingRules = field(compare=False, default=PLAIN, repr=False)
    asks_new_york: bool = field(compare=False, default=False, repr=False)

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    @cached_property
    def asks_session(self) -> bool:
        """Whether anything hangs on the session of a bar."""
        by_condition = (rule.sessions is not None for rule in self.conditions.values())
        return not self.asks_new_york and (bool(self.sessions) or any(by_condition))

    @cached_property
    def variants(self) -> tuple[frozenset[Session], ...]:
        """The sessions in which the same holds, together; one group where none is named.

        A bar of five minutes or less lies in one session, and so in one group.
        """
        found: dict[tuple[Any, ...], set[Session]] = {}
        for session in SESSIONS:
            by_condition = tuple(rule.withheld for rule in self.in_session(session).values())
            same = by_condition, self.sessions.get(session, 0)
            found.setdefault(same, set()).add(session)
        return tuple(frozenset(group) for group in found.values())

    def variant_of(self, session: Session) -> int:
        """Return the place of a session's group in `variants`."""
        return next(n for n, group in enumerate(self.variants) if session in group)

    def in_session(self, session: Session) -> dict[str, ConditionRule]:
        """Return the rules of conditions as they hold in a session of the symbol's market.

        Those that ask New York's clock are returned as they are.
        """
        if self.asks_new_york:
            return dict(self.conditions)
        return {
            condition: ConditionRule(
                rule.withheld if rule.sessions is None or session in rule.sessions else 0
            )
            for condition, rule in self.conditions.items()
        }


def in_order(conditions: Iterable[str]) -> list[str]:
    """Return conditions in the one order of the compiled form: short ones first, then by text."""
    return sorted(conditions, key=lambda condition: (len(condition), condition))


def compile_rules(
    name: str,
    option: str,
    conditions: Mapping[str, ConditionRule],
    unknown: int,
    sessions: Mapping[Session, int],
    below_size: SizeRule | None,
    reading: ReadingRules,
) -> Rules:
    """Return the rules of a file; its fingerprint does not hang on how it was written.

    Args:
        name: in the file.
        option: path of the file.
        conditions: as in `Rules`; so are the rest.
        unknown: bits.
        sessions: bits of each session.
        below_size: for small trades.
        reading: of bars.
    """
    ruled = {c: _plain(conditions[c]) for c in in_order(conditions)}
    by_session: dict[Session, int] = {s: sessions[s] for s in SESSIONS if sessions.get(s)}
    small = below_size if below_size is not None and below_size.withheld else None
    canonical: list[Any] = [
        [
            [c, rule.withheld, None if rule.sessions is None else sorted(rule.sessions)]
            for c, rule in ruled.items()
        ],
        unknown,
        [[session.value, bits] for session, bits in by_session.items()],
        small,
    ]
    if reading != PLAIN:
        canonical.append(reading)
    digest = hashlib.sha256(json.dumps(canonical).encode()).hexdigest()
    return Rules(
        name=f"{name}@{digest[:_FINGERPRINT_DIGITS]}",
        option=option,
        conditions=ruled,
        unknown=unknown,
        sessions=by_session,
        below_size=small,
        reading=reading,
    )


def _plain(rule: ConditionRule) -> ConditionRule:
    """Return a rule without sessions where these make no difference."""
    is_always = not rule.withheld or rule.sessions == frozenset(SESSIONS)
    return rule._replace(sessions=None) if is_always else rule
