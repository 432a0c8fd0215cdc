"""Stop where most of what comes is no trade: somebody must look before more is read."""

from __future__ import annotations

from collections import Counter, deque

from tapeline.model.errors import PoisonError


class PoisonLimit:
    """Watches the share of bad messages among the newest ones of a topic.

    A batch is judged when its rows are in the tables, the bad ones in quarantine with their
    reason, and before Spark commits it: so nothing is lost, and it runs again at the next start.

    Args:
        share: of bad messages that stops the query; 1 and more never does.
        messages: the least that is judged, over as many batches as it takes.
    """

    def __init__(self, share: float, messages: int) -> None:
        self._limit = share
        self._messages = messages
        self._batches: deque[tuple[int, Counter[str]]] = deque()
        self.error: PoisonError | None = None
        """Why the query was stopped."""

    @property
    def share(self) -> float:
        """Of bad messages among the newest; 0 while there are none."""
        newest = self._newest()
        return self._invalid().total() / newest if newest else 0.0

    def check(self, messages: int, invalid: Counter[str]) -> None:
        """Take in a batch: how many messages, and how many of them are bad, by reason.

        Raises:
            PoisonError: too many of the newest are.
        """
        self._batches.append((messages, invalid))
        newest = self._newest()
        while newest - self._batches[0][0] >= self._messages:
            newest -= self._batches.popleft()[0]
        if newest < self._messages or self._limit >= 1 or self.share <= self._limit:
            return
        found = self._invalid()
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in found.most_common())
        message = (
            f"{found.total():,} of the newest {newest:,} messages of the topic are no valid trade "
            f"({reasons}). They are in trades_quarantine, and nothing is lost. Find out who sends "
            "them; to read on all the same, start again with TAPELINE_STREAM__POISON_SHARE=1."
        )
        self.error = PoisonError(message)
        raise self.error

    def _newest(self) -> int:
        return sum(count for count, _ in self._batches)

    def _invalid(self) -> Counter[str]:
        return sum((invalid for _, invalid in self._batches), Counter())
