"""`/v1/bars`: bars of one symbol or several, and the newest ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from enum import Enum
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from tapeline.api.bar_pages import (
    SCHEMA,
    Page,
    cache_of,
    most_bars,
    newest,
    page_of_symbols,
    row_of,
)
from tapeline.api.flat_bars import Known, filled
from tapeline.api.formats import MAY_CHANGE, accepted, answer
from tapeline.api.live import Live
from tapeline.api.models import PROBLEMS, UNKNOWN, BarsOut, LatestOut, SeveralBarsOut, tables
from tapeline.api.open_bars import Open
from tapeline.api.parameters import (
    Between,
    Cursor,
    Length,
    LengthOfSession,
    Limit,
    Symbol,
    Symbols,
    TimeSpan,
    cursor_of,
    parts_of,
    time_of,
)
from tapeline.api.problems import Problem
from tapeline.api.store import Store
from tapeline.model.read_interval import ReadInterval
from tapeline.model.times import to_millis
from tapeline.storage.cassandra_client import CassandraClient

router = APIRouter(prefix="/v1", tags=["bars"], responses=PROBLEMS)

_CSV: Final = (
    "symbol,window_start,window_end,open,high,low,close,volume,vwap,trade_count,is_final,"
    "revision,is_complete,session,is_filled\n"
    "AAPL,2026-11-20T14:35:00Z,2026-11-20T14:40:00Z,271.4,271.52,271.38,271.49,10500,271.44,412,"
    "true,1,true,regular,false\n"
)


_LONGEST_OPEN: Final = timedelta(hours=3)
"""Open bars are kept for less."""


class Fill(str, Enum):
    """What stands where no trade was made."""

    NONE = "none"
    FLAT = "flat"


def store_of(request: Request) -> Store:
    """Return the application's store."""
    store: Store = request.app.state.store
    return store


def live_of(request: Request) -> Live:
    """Return the application's live bars."""
    live: Live = request.app.state.live
    return live


def open_bars_of(
    request: Request, symbols: Sequence[str], interval: ReadInterval, span: TimeSpan
) -> Open:
    """Return the open bars that a time may hold; none where it lies wholly in the past."""
    if span.end < datetime.now(timezone.utc) - _LONGEST_OPEN:
        return {}
    return live_of(request).open_bars(symbols, interval)


@router.get(
    "/bars/latest",
    summary="The newest bar of each symbol",
    responses=tables(LatestOut, _CSV),
    response_model=LatestOut,
)
async def latest(request: Request, symbols: Symbols, interval: Length) -> Response:
    """Return the newest bar of the last week of each symbol that has one."""
    accepted(request)
    open_bars = live_of(request).open_bars(symbols, interval)
    found = await store_of(request).read(
        lambda client: newest(client, symbols, interval, open_bars)
    )
    rows = [row_of(bar) for bar in found]
    content = {"interval": interval.name, "bars": rows}
    return answer(request, content, rows, SCHEMA, MAY_CHANGE)


@router.get(
    "/bars",
    summary="Bars of several symbols",
    responses=tables(SeveralBarsOut, _CSV),
    response_model=SeveralBarsOut,
)
async def of_symbols(
    request: Request,
    symbols: Symbols,
    interval: LengthOfSession,
    span: Between,
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Response:
    """Return bars with start <= window_start < end, by symbol and then by time."""
    accepted(request)
    limit = most_bars(interval, limit)
    first: tuple[str, datetime] | None = None
    if cursor is not None:
        symbol, ms = parts_of(cursor, str, int)
        if symbol not in symbols:
            detail = "cursor: it goes on with a symbol that is not asked for"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        first = symbol, time_of(ms)

    open_bars = open_bars_of(request, symbols, interval, span)

    def query(client: CassandraClient) -> Page:
        return page_of_symbols(client, symbols, interval, span, first, limit, open_bars)

    page = await store_of(request).read(query)
    rows, rest = [row_of(bar) for bar in page.bars], page.following
    content = {
        "interval": interval.name,
        "bars": rows,
        "next_cursor": cursor_of(rest.symbol, to_millis(rest.window_start)) if rest else None,
    }
    return answer(request, content, rows, SCHEMA, cache_of(page, interval, span))


@router.get(
    "/bars/{symbol:path}",
    summary="Bars of one symbol",
    responses={**tables(BarsOut, _CSV), **UNKNOWN},
    response_model=BarsOut,
)
async def of_symbol(
    request: Request,
    symbol: Symbol,
    interval: LengthOfSession,
    span: Between,
    limit: Limit = 1000,
    cursor: Cursor = None,
    fill: Annotated[Fill, Query(description="flat: a bar where no trade was made.")] = Fill.NONE,
) -> Response:
    """Return bars with start <= window_start < end, in order of time.

    JSON, CSV or Arrow by the Accept header. `limit` counts filled bars too.
    """
    accepted(request)
    limit = most_bars(interval, limit)
    first = None if cursor is None else (symbol, time_of(parts_of(cursor, int)[0]))

    open_bars = open_bars_of(request, [symbol], interval, span)

    is_flat = fill is Fill.FLAT

    def query(client: CassandraClient) -> tuple[Page, list[dict[str, Any]]]:
        page = page_of_symbols(
            client, [symbol], interval, span, first, limit, open_bars, tells_finalized=is_flat
        )
        rows = [row_of(bar) for bar in page.bars]
        if not is_flat or not rows:
            return page, rows
        between = rows[0]["window_end"], rows[-1]["window_start"]
        known = Known(symbol, page.final_until, lambda: client.gaps(*between))
        return page, filled(rows, interval, limit, known)

    store = store_of(request)
    page, rows = await store.read(query)
    if not page.bars:
        await store.require_known(symbol)
    unsent = [bar for bar in page.bars if bar.window_start > rows[-1]["window_start"]]
    rest = unsent[0] if unsent else page.following
    content = {
        "symbol": symbol,
        "interval": interval.name,
        "bars": rows,
        "next_cursor": cursor_of(to_millis(rest.window_start)) if rest else None,
    }
    return answer(request, content, rows, SCHEMA, cache_of(page, interval, span))
