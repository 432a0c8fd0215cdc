"""What listeners have been shown: the newest of each bar, by rules that never go back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Final

from tapeline.api.bar_pages import row_of
from tapeline.api.listeners import Topic
from tapeline.model.bar import Bar

_LONG_AGO: Final = datetime.min.replace(tzinfo=timezone.utc)


class Shown:
    """The newest form of each bar that listeners may have."""

    def __init__(self) -> None:
        self._bars: defaultdict[Topic, dict[datetime, Bar]] = defaultdict(dict)

    def take(self, name: str, bar: Bar, *, is_live: bool = False) -> bool:
        """Take a bar if it is newer than what was shown; return whether it is.

        A final bar is never followed by a provisional one, nor a provisional one by one of fewer
        trades. Of as many trades the live view's is the newer one.

        Args:
            name: of the bar's length.
            bar: from the tables or from the live view.
            is_live: from the live view.
        """
        bars = self._bars[name, bar.symbol]
        shown = bars.get(bar.window_start)
        if shown is not None:
            if bar.is_final:
                is_older = shown.is_final and _state(bar) < _state(shown)
            else:
                least = shown.trade_count + (not is_live)
                is_older = shown.is_final or bar.trade_count < least
            if is_older or row_of(shown) == row_of(bar):
                return False
        bars[bar.window_start] = bar
        return True

    def of(self, name: str, symbol: str) -> Mapping[datetime, Bar]:
        """Return the bars of a length and symbol by start."""
        return self._bars.get((name, symbol), {})

    def keep(self, oldest: Callable[[Topic], datetime | None]) -> None:
        """Forget bars that start before the oldest to keep of their topic; None keeps none."""
        for topic, bars in list(self._bars.items()):
            first = oldest(topic)
            kept = {} if first is None else {s: b for s, b in bars.items() if s >= first}
            if kept:
                self._bars[topic] = kept
            else:
                del self._bars[topic]

    def clear(self) -> None:
        """Forget all."""
        self._bars.clear()


def _state(bar: Bar) -> tuple[datetime, int]:
    """Return what grows with each change of a final bar."""
    return bar.updated_at or _LONG_AGO, bar.revision
