"""What a trade may update, by its sale conditions and its time, without Spark."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from tapeline.model import conditions as sale
from tapeline.model.conditions import ConditionPolicy
from tapeline.model.sessions import Session, session_at
from tapeline.model.times import from_millis

_MINUTE_MS: Final = 60_000
_EQUITY: Final = ""
"""A name without a venue: the hours of New York hold for every symbol's Form T trades."""


class Rules(NamedTuple):
    """What trades of one list of conditions may update; `only_at_night` bars regular hours."""

    sets_high_low: bool
    sets_last: bool
    adds_volume: bool
    only_at_night: bool


@lru_cache(maxsize=4096)
def rules_of(conditions: tuple[str, ...] | None, policy: ConditionPolicy) -> Rules:
    """Return the rules of docs/bars.md for a list of condition ids; none is a regular trade."""
    ids = frozenset(conditions or ())
    adds_volume = not ids & sale.NO_VOLUME
    if not ids or policy is ConditionPolicy.ALL:
        return Rules(
            sets_high_low=True, sets_last=True, adds_volume=adds_volume, only_at_night=False
        )
    no_price = sale.NO_PRICE | sale.NO_FIELD
    if policy is ConditionPolicy.SIP_ODDLOT:
        no_price -= {sale.ODD_LOT}
    sets_high_low = ids <= sale.KNOWN and not ids & no_price
    return Rules(
        sets_high_low=sets_high_low,
        sets_last=sets_high_low and not ids & sale.NO_LAST,
        adds_volume=adds_volume,
        only_at_night=bool(ids & sale.EXTENDED_HOURS),
    )


def sets_prices_at(rules: Rules, event_time_ms: int) -> bool:
    """Return whether a trade made then may set prices at all, ms since the epoch."""
    return not rules.only_at_night or not _is_regular(event_time_ms // _MINUTE_MS)


@lru_cache(maxsize=4096)
def _is_regular(minute: int) -> bool:
    """Return whether a minute since the epoch is in New York's regular hours; they begin on one."""
    return session_at(_EQUITY, from_millis(minute * _MINUTE_MS)) is Session.REGULAR
