"""Fetch the trades that an exchange's numbers show to be missing, page by page."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from decimal import Decimal
from http.client import HTTPException
from typing import Any, Final, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, Request

from tapeline.feeds.feed import Feed, History, IdHole, OfferedTrade
from tapeline.model.errors import TapelineError
from tapeline.producer.feed_client import Backoff
from tapeline.producer.validation import WireTrade, valid_trade
from tapeline.program.loopback import opener_for
from tapeline.program.tls import TlsFiles

_T = TypeVar("_T")
_TIMEOUT_S: Final = 15.0
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
        tls = HTTPSHandler(context=TlsFiles().context())
        self._opener = opener_for(urlsplit(url).hostname or "", tls)
        self._next_s = 0.0

    async def trades(self, hole: IdHole) -> AsyncIterator[list[WireTrade]]:
        """Yield the trades of a hole, a page at a time, until each of its numbers has come.

        Raises:
            NoHistoryError: it cannot be filled; what was yielded before is as it should be.
        """
        left, lacking = hole, hole.before_id - hole.after_id - 1
        while left.before_id - left.after_id > 1:
            found = self._history.read(await self._answer(left), hole.symbol)
            if not found:
                message = "the exchange has no such trades" if found == [] else "not understood"
                raise NoHistoryError(message)
            inside = _inside(left, found)
            if inside:
                yield inside
            lacking -= len(inside)
            left = _rest_of(left, found, forwards=self._history.forwards)
        if lacking:
            message = f"the exchange leaves out {lacking} of the numbers"
            raise NoHistoryError(message)

    async def _answer(self, hole: IdHole) -> Any:
        """Return what the exchange answers, asked again while it or the line is in trouble."""
        backoff = Backoff()
        request = Request(  # noqa: S310 - the scheme is checked in the settings
            self._url + self._history.page(hole),
            headers={"Accept": "application/json", "User-Agent": "tapeline"},
        )
        for attempt in range(1, _ATTEMPTS + 1):
            await asyncio.sleep(self._next_s - time.monotonic())
            self._next_s = time.monotonic() + 1 / self._history.requests_per_s
            try:
                return await _in_a_thread(lambda: self._get(request))
            except HTTPError as error:
                if error.code not in _BUSY and error.code < _SERVER_ERROR:
                    message = f"HTTP {error.code}"
                    raise NoHistoryError(message) from error
                reason = f"HTTP {error.code}"
            except (OSError, ValueError, ArithmeticError, RecursionError, HTTPException) as error:
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


async def _in_a_thread(work: Callable[[], _T]) -> _T:
    """Wait for work in a thread for which the end of the program does not wait."""
    future: Future[_T] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="history", daemon=True).start()
    # Whoever is cancelled leaves the thread to itself.
    return await asyncio.shield(asyncio.wrap_future(future))


def _inside(hole: IdHole, page: Sequence[OfferedTrade]) -> list[WireTrade]:
    """Return the trades of a page that lie in a hole, each once; the others are not looked at."""
    found: dict[int, WireTrade] = {}
    for offered in page:
        if not hole.after_id < _id_of(offered) < hole.before_id:
            continue
        trade = valid_trade(offered, hole.before_ms + _AHEAD_MS, needs_id=True)
        if not isinstance(trade, WireTrade):
            message = f"a trade is not valid: {trade.value}"
            raise NoHistoryError(message)
        found[_id_of(offered)] = trade
    return list(found.values())


def _rest_of(hole: IdHole, page: Sequence[OfferedTrade], *, forwards: bool) -> IdHole:
    """Return what is left of a hole after a page of it.

    Raises:
        NoHistoryError: it is not less.
    """
    if forwards:
        last = max(page, key=_id_of)
        rest = hole._replace(after_id=_id_of(last), after_ms=last.event_time_ms)
    else:
        first = min(page, key=_id_of)
        rest = hole._replace(before_id=_id_of(first))
    is_less = rest.before_id - rest.after_id < hole.before_id - hole.after_id
    if not is_less or type(rest.after_ms) is not int:
        message = "the exchange's page does not lead on"
        raise NoHistoryError(message)
    return rest


def _id_of(offered: OfferedTrade) -> int:
    if type(offered.trade_id) is not int:
        message = "a trade has no number"
        raise NoHistoryError(message)
    return offered.trade_id
