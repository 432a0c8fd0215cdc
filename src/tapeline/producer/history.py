"""Fetch the trades that an exchange's numbers show to be missing, page by page."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from tapeline.feeds.feed import Feed, History, IdHole
from tapeline.model.errors import TapelineError
from tapeline.producer.feed_address import is_here
from tapeline.producer.feed_client import Backoff
from tapeline.producer.validation import WireTrade, valid_trade
from tapeline.program.tls import TlsFiles

_TIMEOUT_S: Final = 5.0
"""A stop waits for an answer, so not long."""
_ATTEMPTS: Final = 8
_MOST_BYTES: Final = 16 * 1024 * 1024
_BUSY: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500
_AHEAD_MS: Final = 60_000


class NoHistoryError(TapelineError):
    """The trades of a hole are not to be had."""


class HistoryClient:
    """Asks an exchange for what was traded between two numbers.

    Args:
        feed: its protocol, which has a history.
        url: the history's address, https:// and a host.
    """

    def __init__(self, feed: Feed, url: str) -> None:
        if feed.history is None:
            message = f"{feed.name} has no history by number."
            raise ValueError(message)
        self._history: History = feed.history
        self._url = url.rstrip("/")
        self._opener = _opener(url)
        self._next_s = 0.0

    async def trades(self, hole: IdHole) -> AsyncIterator[list[WireTrade]]:
        """Yield the trades of a hole, a page at a time, until there are none between its ends.

        Raises:
            NoHistoryError: it cannot be filled; what was yielded before is as it should be.
        """
        left = hole
        while left.before_id - left.after_id > 1:
            found = self._history.read(await self._answer(left), hole.symbol)
            if not found:
                message = "the exchange has no such trades" if found == [] else "not understood"
                raise NoHistoryError(message)
            latest_ms = hole.before_ms + _AHEAD_MS
            trades = [valid_trade(offered, latest_ms, needs_id=True) for offered in found]
            wrong = [t for t in trades if not isinstance(t, WireTrade)]
            if wrong:
                message = f"a trade is not valid: {wrong[0].value}"
                raise NoHistoryError(message)
            page = [t for t in trades if isinstance(t, WireTrade)]
            rest = _rest_of(left, page, forwards=self._history.forwards)
            if rest is None:
                message = "the exchange's page does not lead on"
                raise NoHistoryError(message)
            inside = [t for t in page if left.after_id < _id(t) < left.before_id]
            if inside:
                yield inside
            left = rest

    async def _answer(self, hole: IdHole) -> Any:
        """Return what the exchange answers, asked again while it or the line is in trouble."""
        backoff = Backoff()
        request = Request(  # noqa: S310 - the scheme is checked in the settings
            self._url + self._history.page(hole), headers={"Accept": "application/json"}
        )
        for attempt in range(1, _ATTEMPTS + 1):
            await asyncio.sleep(self._next_s - time.monotonic())
            self._next_s = time.monotonic() + 1 / self._history.requests_per_s
            try:
                return await asyncio.to_thread(self._get, request)
            except HTTPError as error:
                if error.code not in _BUSY and error.code < _SERVER_ERROR:
                    message = f"HTTP {error.code}"
                    raise NoHistoryError(message) from error
                reason = f"HTTP {error.code}"
            except (OSError, ValueError, HTTPException) as error:
                reason = type(error).__name__
            if attempt < _ATTEMPTS:
                await asyncio.sleep(backoff.next_s())
        raise NoHistoryError(reason)

    def _get(self, request: Request) -> Any:
        with self._opener.open(request, timeout=_TIMEOUT_S) as response:
            body = response.read(_MOST_BYTES + 1)
        if len(body) > _MOST_BYTES:
            message = "The answer is too large."
            raise ValueError(message)
        return json.loads(body, parse_float=Decimal)


def _opener(url: str) -> OpenerDirector:
    parts = urlsplit(url)
    handlers: list[Any] = [HTTPSHandler(context=TlsFiles().context())]
    if is_here(parts.hostname or ""):
        handlers.append(ProxyHandler({}))
    return build_opener(*handlers)


def _id(trade: WireTrade) -> int:
    return trade.trade_id or 0


def _rest_of(hole: IdHole, page: list[WireTrade], *, forwards: bool) -> IdHole | None:
    """Return what is left of a hole after a page of it; None if that is not less."""
    if forwards:
        last = max(page, key=_id)
        if _id(last) <= hole.after_id:
            return None
        return hole._replace(after_id=_id(last), after_ms=last.event_time_ms)
    first = min(page, key=_id)
    if _id(first) >= hole.before_id:
        return None
    return hole._replace(before_id=_id(first), before_ms=first.event_time_ms)
