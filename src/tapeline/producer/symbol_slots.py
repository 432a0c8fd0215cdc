"""Which symbols the feed does not send, since it told us so without naming them.

The feed answers subscriptions in their order, and only those that it refuses. Once its cap is
reached, it refuses every valid symbol that follows, so n refusals are of the last n:

    asked     A  B  X  C  D      "Invalid symbol X", "too many symbols", "too many symbols"
    has one   A  B               C and D have no slot
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import structlog

from tapeline.feeds.feed import FeedMessage
from tapeline.model.feed_status import SlotSpan

log = structlog.get_logger()

_ANSWERED_S: Final = 5.0
"""So long after asking, all refusals have come."""
_AGAIN_S: Final = 120.0
"""So long after asking, it is asked again for symbols without a slot."""

_MOST_SPANS: Final = 100
"""Of a symbol; the oldest ones count as one, with what lies between."""


class SymbolSlots:
    """Follows what one producer asks for, what the feed answers, and what it no longer asks for.

    How long ago it asked is told by a clock that never steps; when that was is only worked out when
    the answers are taken in, since the clock may have been found wrong and corrected meanwhile.
    """

    def __init__(self) -> None:
        self._asked: tuple[str, ...] = ()
        self._asked_s = 0.0
        self._sent_s: float | None = None
        self._refusals = 0
        self._invalid: set[str] = set()
        self.is_checked = True
        """Whether the answers to what was last asked are taken in."""
        self.spans: dict[str, tuple[SlotSpan, ...]] = {}
        """Each symbol's times without a slot, in order; those before it was asked for, and since it
        no longer is, are some."""
        self.removed: tuple[str, ...] = ()
        """The symbols that are no longer asked for."""
        self._logged: tuple[str, ...] = ()

    @property
    def waiting(self) -> tuple[str, ...]:
        """The symbols that are asked for and have no slot, as far as is known."""
        removed = set(self.removed)
        return tuple(s for s in self.spans if self._is_open(s) and s not in removed)

    def goes_on_from(
        self, removed: Iterable[str], spans: Mapping[str, tuple[SlotSpan, ...]]
    ) -> None:
        """Take over what a previous run reported."""
        self.removed, self.spans = tuple(removed), dict(spans)

    def changed(self, before: Sequence[str], after: Sequence[str], gone_us: int) -> None:
        """Note that other symbols are asked for from now on.

        A new one has no slot, nor ever had, until the feed gives it one.

        Args:
            before: what was asked for until now.
            after: what is from now on.
            gone_us: from when on trades of those left out may be missed, µs since the epoch.
        """
        kept, gone = set(after), [s for s in before if s not in set(after)]
        for symbol in gone:
            self._open(symbol, gone_us)
        for symbol in kept.difference(before, self.spans):
            self._open(symbol, 0)
        self.removed = tuple(s for s in dict.fromkeys((*self.removed, *gone)) if s not in kept)

    def asked(self, symbols: Sequence[str], steady_s: float) -> None:
        """Note subscriptions, in the order in which they are sent; seconds that never step."""
        self._asked, self._asked_s, self._sent_s = tuple(symbols), steady_s, None
        self._refusals, self._invalid, self.is_checked = 0, set(), False

    def sent(self, steady_s: float) -> None:
        """Note that the last of these subscriptions is sent."""
        self._sent_s = steady_s

    def told(self, message: FeedMessage) -> None:
        """Note an error of the feed."""
        self._refusals += message.is_full
        self._invalid.update(message.refused)
        if message.is_full or message.refused:
            self.is_checked = False

    def check(self, steady_s: float, at_us: Callable[[float], int]) -> tuple[str, ...]:
        """Take in the answers when they have come; return what to ask for again, if it is time.

        Args:
            steady_s: now, on the clock of `asked`.
            at_us: gives the time of a reading of that clock, µs since the epoch.
        """
        if self._sent_s is None:
            return ()
        if not self.is_checked and steady_s - self._sent_s >= _ANSWERED_S:
            self._take_in(at_us(self._asked_s), at_us(steady_s))
        return self.waiting if steady_s - self._asked_s >= _AGAIN_S else ()

    def _take_in(self, asked_us: int, now_us: int) -> None:
        self.is_checked = True
        valid = [s for s in self._asked if s not in self._invalid]
        refused = set(valid[len(valid) - min(self._refusals, len(valid)) :])
        refused.update(s for s in self._asked if s in self._invalid)
        removed = set(self.removed)
        for symbol in self._asked:
            if symbol in refused:
                self._open(symbol, asked_us)
            elif self._is_open(symbol) and symbol not in removed:
                *others, (since_us, _) = self.spans[symbol]
                self.spans[symbol] = (*others, (since_us, now_us))
        if self.waiting != self._logged:
            self._logged = self.waiting
            log.warning("symbols_without_slot", symbols=",".join(self.waiting) or None)

    def _is_open(self, symbol: str) -> bool:
        spans = self.spans.get(symbol)
        return spans is not None and spans[-1][1] is None

    def _open(self, symbol: str, since_us: int) -> None:
        if self._is_open(symbol):
            return
        known = self.spans.get(symbol, ())
        if len(known) >= _MOST_SPANS:
            known = ((known[0][0], known[1][1]), *known[2:])
        self.spans[symbol] = (*known, (since_us, None))
