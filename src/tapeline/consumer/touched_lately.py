"""What the stream of this process has touched, so that its settler need not read it again."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tapeline.storage.rows import WindowState

_MOST: Final = 200_000
"""States that wait for the settler; what is beyond it reads from the table."""


class TouchedLately:
    """Hands the states of windows from the stream's thread to the settler's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: list[WindowState] | None = []

    def add(self, states: Iterable[WindowState]) -> None:
        """Add what a batch touched, once it is written and before its progress is."""
        with self._lock:
            if self._states is not None:
                self._states += states
                if len(self._states) > _MOST:
                    self._states = None

    def take(self) -> Mapping[int, Sequence[WindowState]] | None:
        """Return all that was added since, by Kafka partition; None if it was too much."""
        with self._lock:
            taken, self._states = self._states, []
        if taken is None:
            return None
        found: defaultdict[int, list[WindowState]] = defaultdict(list)
        for state in taken:
            found[state.kafka_partition].append(state)
        return found
