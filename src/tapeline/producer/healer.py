"""Fill the holes of a live feed from its exchange's history, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from tapeline.feeds.feed import IdHole
from tapeline.producer.history import HistoryClient, NoHistoryError
from tapeline.producer.validation import WireTrade

log = structlog.get_logger()


class Healer:
    """Takes holes as they are noticed, and fills them beside the reading of the feed.

    Args:
        client: asks the exchange.
        take: takes a page of trades on their way to Kafka.
        delivered: waits until Kafka has what was taken so far.
        filled: told of a hole once Kafka has all of its trades.
    """

    def __init__(
        self,
        client: HistoryClient,
        take: Callable[[Sequence[WireTrade]], None],
        delivered: Callable[[], Awaitable[None]],
        filled: Callable[[IdHole], None],
    ) -> None:
        self._client = client
        self._take = take
        self._delivered = delivered
        self._filled = filled
        self._holes: asyncio.Queue[IdHole] = asyncio.Queue()

    def want(self, hole: IdHole) -> None:
        """Have a hole filled, after those that were noticed before."""
        self._holes.put_nowait(hole)

    async def run(self) -> None:
        """Fill holes until cancelled; one that cannot be filled stays."""
        while True:
            hole = await self._holes.get()
            between = hole.before_id - hole.after_id - 1
            try:
                fetched = await self._fill(hole)
            except NoHistoryError as error:
                log.warning("hole_stays", symbol=hole.symbol, numbers=between, reason=str(error))
                continue
            log.info("hole_filled", symbol=hole.symbol, numbers=between, trades=fetched)
            self._filled(hole)

    async def _fill(self, hole: IdHole) -> int:
        fetched = 0
        async for trades in self._client.trades(hole):
            self._take(trades)
            fetched += len(trades)
        await self._delivered()
        return fetched
