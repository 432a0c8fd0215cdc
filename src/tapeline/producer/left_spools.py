"""Send what producers of other names have left for the same topic, before anything newer.

Their spools are sent from where they are, so that it needs no room in one's own, and each goes when
Kafka has all of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog

from tapeline.model.errors import SpoolError
from tapeline.producer.holes import Hole
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.outbox import Outbox
from tapeline.producer.spool_folder import LeftSpool
from tapeline.program.settings import SpoolSettings
from tapeline.program.tasks import cancel, first_end

log = structlog.get_logger()

_CLOSE_WITHIN_S: Final = 1.0


class LeftSpools:
    """Brings what others have left to Kafka, as their own outbox would: in order, at least once.

    Args:
        producer: Kafka's client.
        spools: what they have left.
        settings: of the outboxes.
    """

    def __init__(
        self, producer: KafkaProducer, spools: Sequence[LeftSpool], settings: SpoolSettings
    ) -> None:
        self._left = deque((left, Outbox(producer, left.spool, settings)) for left in spools)
        self.all_sent = asyncio.Event()
        """Set when Kafka has all of it."""

    @property
    def pending(self) -> int:
        """Messages that Kafka has not acknowledged."""
        return sum(outbox.pending for _, outbox in self._left)

    @property
    def oldest_unsent_us(self) -> int | None:
        """As that of an outbox."""
        times = [outbox.oldest_unsent_us for _, outbox in self._left]
        return min((us for us in times if us is not None), default=None)

    def tell(self, on_hole: Callable[[str, Hole], None]) -> None:
        """Tell what of them is damaged, by the producer's name: what is known, and from now on."""
        for left, outbox in self._left:
            for hole in left.spool.holes:
                on_hole(left.producer_id, hole)
            outbox.groups.on_hole = partial(on_hole, left.producer_id)

    async def send(self) -> None:
        """Send one after the other, and delete each that Kafka has.

        Raises:
            DeliveryError: Kafka refuses a message for good.
            SpoolError: a disk fails.
        """
        while self._left:
            left, outbox = self._left[0]
            sending = asyncio.create_task(outbox.send())
            try:
                await first_end(asyncio.create_task(outbox.acknowledged()), [sending])
            finally:
                await cancel(sending)
            self._left.popleft()
            await outbox.close(_CLOSE_WITHIN_S)
            left.delete()
            log.info("left_spool_sent", producer=left.producer_id)
        self.all_sent.set()

    async def look_after(self) -> None:
        """Handle acknowledgements of the one that is being sent; delete its files that are done.

        Raises:
            DeliveryError: Kafka refuses a message for good.
            SpoolError: the disk fails.
        """
        if self._left:
            await self._left[0][1].look_after()

    async def close(self) -> None:
        """Let go of what was not sent, noting how far it was; nothing else may be running."""
        closing = [outbox.close(_CLOSE_WITHIN_S) for _, outbox in self._left]
        for failed in await asyncio.gather(*closing, return_exceptions=True):
            if failed is not None and not isinstance(failed, SpoolError):
                raise failed  # a disk that fails is said already, and all of it is on disk
