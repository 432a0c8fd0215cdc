"""Sale conditions by Finnhub id: which fields of a bar a trade may update.

The rules follow the consolidated tape's published tables (CTS and UTP): a trade carries a
list of conditions, and one "no" among them disqualifies it for that field. Finnhub's ids
are its own (12 is an odd lot, 24 is Form T). No list, or an empty one, is a regular trade.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tapeline.model.rules import OPEN_CLOSE, PRICES, VOLUME, ConditionRule, Rules, in_order
from tapeline.model.sessions import Session

NO_LAST: Final = frozenset({"9", "21", "30", "32"})
"""Late or out-of-sequence prints: they may set high and low, never open and close."""

NO_PRICE: Final = frozenset({"3", "5", "10", "12", "22", "26", "37", "17", "11", "27", "38", "40"})
"""Average-price, odd-lot, cash, contingent and like trades: volume only."""

EXTENDED_HOURS: Final = frozenset({"24", "25"})
"""Form T and extended hours out of sequence: prices outside regular hours only."""

NO_FIELD: Final = frozenset({"16", "20"})
"""The market centre's official open and close: a report of a price, not a trade."""

NO_VOLUME: Final = NO_FIELD | {"39"}
"""Official prices and the corrected consolidated close carry volume already counted."""

REGULAR: Final = frozenset(
    {"1", "2", "4", "6", "7", "8", "13", "14", "15", "18", "19", "23", "28", "29"}
    | {"31", "33", "34", "35", "36", "39", "41"}
)
"""Trades that may set every price."""

ODD_LOT: Final = "12"

KNOWN: Final = REGULAR | NO_LAST | NO_PRICE | EXTENDED_HOURS | NO_FIELD
"""Every id with a rule; any other is ineligible for prices."""


def _shipped(name: str, prices: Mapping[str, int], unknown: int) -> Rules:
    """Return shipped rules; volume follows the table under each of them."""
    rules = {}
    for condition in in_order(KNOWN):
        of_volume = VOLUME if condition in NO_VOLUME else 0
        sessions = frozenset({Session.REGULAR}) if prices and condition in EXTENDED_HOURS else None
        rules[condition] = ConditionRule(prices.get(condition, 0) | of_volume, sessions)
    return Rules(name, name, rules, unknown, asks_new_york=True)


_SIP: Final = {
    **dict.fromkeys(NO_LAST, OPEN_CLOSE),
    **dict.fromkeys(NO_PRICE | NO_FIELD | EXTENDED_HOURS, PRICES),
}

SIP: Final = _shipped("sip", _SIP, PRICES)
"""The tape's rule."""
SIP_ODDLOT: Final = _shipped("sip+oddlot", {**_SIP, ODD_LOT: 0}, PRICES)
"""The same, and odd lots set prices."""
ALL: Final = _shipped("all", {}, 0)
"""Every trade sets prices."""

SHIPPED: Final = {rules.name: rules for rules in (SIP, SIP_ODDLOT, ALL)}
"""The rules that have names."""
