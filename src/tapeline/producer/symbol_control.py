"""Symbols at run time: what users add and remove is subscribed while everything else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import structlog

from tapeline.kafka.symbol_changes import SymbolChanges
from tapeline.model.errors import TapelineError
from tapeline.producer.feed_client import FeedClient

log = structlog.get_logger()

_LOOK_S: Final = 1.0


class SymbolControl:
    """Holds one client to the symbols that it was started with, and what users have changed since.

    Args:
        base: what it was started with.
        changes: of users.
        others: tells which of some symbols come by another feed already; it may wait for Kafka.
    """

    def __init__(
        self,
        base: Sequence[str],
        changes: SymbolChanges,
        others: Callable[[Collection[str]], Collection[str]],
    ) -> None:
        self._base = tuple(base)
        self._changes = changes
        self._others = others

    def wanted(self) -> tuple[str, ...]:
        """Return what is wanted now, as far as changes were read; the base if that is nothing."""
        return self._changes.applied_to(self._base) or self._base

    async def follow(
        self, client: FeedClient, change: Callable[[Sequence[str]], Awaitable[None]]
    ) -> None:
        """Subscribe what users add and unsubscribe what they remove, until cancelled.

        The feed answers in order and does not name what it refuses, so the answers to one change
        are waited for before the next is made. The last symbols stay.
        """
        seen = self._changes.applied_to(self._base)
        while True:
            await asyncio.sleep(_LOOK_S)
            self._changes.poll()
            wanted = self._changes.applied_to(self._base)
            if wanted == seen or (client.connected and not client.slots.is_checked):
                continue
            try:
                symbols = await self._possible(wanted, client)
            except TapelineError as error:
                log.warning("symbols_not_changed_yet", error=str(error))
                continue
            seen = wanted
            if not symbols:
                log.warning("no_symbol_left", kept=",".join(client.symbols))
            elif set(symbols) != set(client.symbols):
                added = len(set(symbols).difference(client.symbols))
                removed = len(set(client.symbols).difference(symbols))
                log.info("symbols_changed", added=added, removed=removed, symbols=len(symbols))
                await change(symbols)

    async def _possible(self, wanted: tuple[str, ...], client: FeedClient) -> tuple[str, ...]:
        """Return what can be subscribed; the log says of the rest why it cannot."""
        new = set(wanted).difference(client.symbols)
        elsewhere = set(await asyncio.to_thread(self._others, new)) if new else set()
        if elsewhere:
            log.error("symbols_come_by_another_feed", symbols=",".join(sorted(elsewhere)))
        possible = [s for s in wanted if s not in elsewhere]
        most = client.feed.most_symbols
        if most is not None and len(possible) > most:
            log.error("too_many_symbols", most=most, left_out=",".join(possible[most:]))
        return tuple(possible[:most])
