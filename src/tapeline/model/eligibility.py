"""What a trade may update, by its sale conditions, its size and its time, without Spark."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from tapeline.model.rules import Rules
from tapeline.model.sessions import Session, session_at
from tapeline.model.times import from_millis
from tapeline.model.trade import Trade

_MINUTE_MS: Final = 60_000
_EQUITY: Final = ""
"""A name without a venue: the hours of New York."""


class Withheld(NamedTuple):
    """Bits that a list of conditions withholds: always, and in New York's regular hours."""

    always: int
    by_day: int = 0


def withheld(trade: Trade, rules: Rules, session: Session | None) -> int:
    """Return the fields of its bar that a trade may not update, as bits of `model/rules.py`.

    Args:
        trade: any.
        rules: which trades set and add to what.
        session: of its bar, None where the rules do not ask it.
    """
    bits, by_day = by_conditions(trade.conditions, rules, session)
    if by_day and _is_regular(trade.event_time_ms // _MINUTE_MS):
        bits |= by_day
    small = rules.below_size
    if small is not None and 0 < trade.volume < small.size:
        bits |= small.withheld
    return bits


def session_asked(rules: Rules, symbol: str, start_ms: int) -> Session | None:
    """Return the session of a bar of at most five minutes if the rules ask it, else None."""
    return session_at(symbol, from_millis(start_ms)) if rules.asks_session else None


@lru_cache(maxsize=4096)
def by_conditions(
    conditions: tuple[str, ...] | None, rules: Rules, session: Session | None
) -> Withheld:
    """Return what a list of conditions and the session withhold; no list is a regular trade."""
    always = rules.sessions.get(session, 0) if session is not None else 0
    by_day = 0
    for condition in conditions or ():
        rule = rules.conditions.get(condition)
        if rule is None:
            always |= rules.unknown
        elif rule.sessions is None or session in rule.sessions:
            always |= rule.withheld
        elif rules.asks_new_york:
            by_day |= rule.withheld
    return Withheld(always, by_day)


@lru_cache(maxsize=4096)
def _is_regular(minute: int) -> bool:
    """Return whether a minute since the epoch is in New York's regular hours; they begin on one."""
    return session_at(_EQUITY, from_millis(minute * _MINUTE_MS)) is Session.REGULAR
