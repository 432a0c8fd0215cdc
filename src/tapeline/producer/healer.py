"""Fill the holes of a live feed from its exchange's history, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from tapeline.feeds.feed import IdHole
from tapeline.producer.history import HistoryClient, NoHistoryError
from tapeline.producer.validation import WireTrade

log = structlog.get_logger()

_AGAIN_S: Final = (3.0, 60.0, 600.0)


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
        self._holes: asyncio.Queue[tuple[IdHole, int]] = asyncio.Queue()

    def want(self, hole: IdHole) -> None:
        """Have a hole filled, after those that were noticed before."""
        self._holes.put_nowait((hole, 0))

    async def run(self) -> None:
        """Fill holes until cancelled; one that cannot be filled is tried again, and at last stays.

        An exchange's history may be behind its feed.
        """
        while True:
            hole, attempt = await self._holes.get()
            told = {"symbol": hole.symbol, "numbers": hole.before_id - hole.after_id - 1}
            try:
                await self._fill(hole)
            except NoHistoryError as error:
                if attempt == len(_AGAIN_S):
                    log.warning("hole_stays", **told, reason=str(error))
                    continue
                log.info("hole_later", **told, reason=str(error), wait_s=_AGAIN_S[attempt])
                again = (hole, attempt + 1)
                loop = asyncio.get_running_loop()
                loop.call_later(_AGAIN_S[attempt], self._holes.put_nowait, again)
            else:
                log.info("hole_filled", **told)
                self._filled(hole)

    async def _fill(self, hole: IdHole) -> None:
        async for trades in self._client.trades(hole):
            self._take(trades)
            await self._delivered()  # so that no history fills the spool
