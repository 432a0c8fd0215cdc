"""The write limit: rows prepared beforehand, then written as fast as Cassandra takes them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from bench.plain.consumer import CHUNK, Chunk, PlainConsumer

MESSAGES: Final = 400_000
"""The most messages whose rows are held in memory; each makes a row of bronze and of silver."""
_CHUNKS_IN_FLIGHT: Final = 4
_POLL_S: Final = 1.0


class WritesOnly(PlainConsumer):
    """Writes bronze and silver of a topic's first messages, and no bars."""

    async def run(self) -> None:
        """Prepare all rows, then write them."""
        chunks: list[Chunk] = []
        messages = 0
        while messages < MESSAGES and not self._is_at_end():
            taken = self._consumer.consume(CHUNK, _POLL_S)
            messages += len(taken)
            chunks.append(self._taken(taken))
        writing: deque[asyncio.Task[None]] = deque()
        for chunk in chunks:
            before = writing[-1] if writing else None
            writing.append(asyncio.ensure_future(self._write(chunk, before)))
            if len(writing) >= _CHUNKS_IN_FLIGHT:
                await writing.popleft()
        await asyncio.gather(*writing)
        self._consumer.close()
