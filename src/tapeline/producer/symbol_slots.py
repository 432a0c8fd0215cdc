"""Which symbols the feed does not send, since it told us so without naming them.

The feed answers subscriptions in their order, and only those that it refuses. Once its cap is
reached, it refuses every valid symbol that follows, so n refusals are of the last n:

    asked     A  B  X  C  D      "Invalid symbol X", "too many symbols", "too many symbols"
    has one   A  B               C and D have no slot
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from tapeline.feeds.feed import FeedMessage

log = structlog.get_logger()

_ANSWERED_S: Final = 5.0
"""So long after asking, all refusals have come."""
_AGAIN_S: Final = 120.0
"""So long after asking, it is asked again for symbols without a slot."""

SlotSpan = tuple[int, int | None]
"""From when to when a symbol had no slot, µs since the epoch; None while it has none."""


class SymbolSlots:
    """Follows what one producer asks for and what the feed answers.

    How long ago it asked is told by a clock that never steps; when that was is only worked out when
    the answers are taken in, since the clock may have been found wrong and corrected meanwhile.
    """

    def __init__(self) -> None:
        self._asked: tuple[str, ...] = ()
        self._asked_s = 0.0
        self._refusals = 0
        self._invalid: set[str] = set()
        self._is_checked = True
        self.spans: dict[str, SlotSpan] = {}
        """Each symbol's time without a slot; several times count as one, with what lies between."""

    @property
    def waiting(self) -> tuple[str, ...]:
        """The symbols that have no slot, as far as is known."""
        return tuple(s for s, (_, until_us) in self.spans.items() if until_us is None)

    def asked(self, symbols: Sequence[str], steady_s: float) -> None:
        """Note subscriptions, in the order in which they are sent; seconds that never step."""
        self._asked, self._asked_s = tuple(symbols), steady_s
        self._refusals, self._invalid, self._is_checked = 0, set(), False

    def told(self, message: FeedMessage) -> None:
        """Note an error of the feed."""
        self._refusals += message.is_full
        self._invalid.update(message.refused)
        if message.is_full or message.refused:
            self._is_checked = False

    def check(self, steady_s: float, at_us: Callable[[float], int]) -> tuple[str, ...]:
        """Take in the answers when they have come; return what to ask for again, if it is time.

        Args:
            steady_s: now, on the clock of `asked`.
            at_us: gives the time of a reading of that clock, µs since the epoch.
        """
        since_s = steady_s - self._asked_s
        if not self._is_checked and since_s >= _ANSWERED_S:
            self._take_in(at_us(self._asked_s), at_us(steady_s))
        return self.waiting if since_s >= _AGAIN_S else ()

    def _take_in(self, asked_us: int, now_us: int) -> None:
        self._is_checked = True
        before = self.waiting
        valid = [s for s in self._asked if s not in self._invalid]
        refused = set(valid[len(valid) - min(self._refusals, len(valid)) :])
        refused.update(s for s in self._asked if s in self._invalid)
        for symbol in self._asked:
            since_us, until_us = self.spans.get(symbol, (asked_us, now_us))
            if symbol in refused:
                self.spans[symbol] = (since_us, None)
            elif symbol in self.spans and until_us is None:
                self.spans[symbol] = (since_us, now_us)
        if self.waiting != before:
            log.warning("symbols_without_slot", symbols=",".join(self.waiting) or None)
