"""`/v1/trades`: the valid trades of one symbol, from silver."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from itertools import chain, islice
from typing import Annotated, Any, Final

import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response

from tapeline.api.bars_api import store_of
from tapeline.api.formats import MAY_CHANGE, accepted, answer
from tapeline.api.models import PROBLEMS, UNKNOWN, TradesOut, tables
from tapeline.api.parameters import Cursor, Limit, Symbol, Time, cursor_of, parts_of, time_of
from tapeline.api.problems import Problem
from tapeline.model.bar import Interval
from tapeline.model.times import EPOCH, floor_to, from_millis, to_millis
from tapeline.read.trades import trades_schema
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.trades import LOWEST_ID

router = APIRouter(prefix="/v1", tags=["trades"], responses=PROBLEMS)

_COLUMNS: Final = (
    *("symbol", "event_time", "trade_id", "price", "volume"),
    *("conditions", "sequence", "received_at", "source"),
)
SCHEMA: Final = pa.schema([trades_schema(exact=False).field(name) for name in _COLUMNS])
_CSV: Final = (
    "symbol,event_time,trade_id,price,volume,conditions,sequence,received_at,source\n"
    "AAPL,2026-11-20T14:35:00.012000Z,-42,271.4,100,1|37,0,2026-11-20T14:35:00.151000Z,finnhub\n"
)
_BUCKET: Final = Interval.FIVE_MINUTES.duration
_BUCKETS_A_PAGE: Final = 288
"""One page looks at a day of five-minute windows at most, whether they hold trades or not."""
_HIGHEST_ID: Final = 2**63 - 1


@router.get(
    "/trades/{symbol:path}",
    summary="Trades of one symbol",
    responses={**tables(TradesOut, _CSV), **UNKNOWN},
    response_model=TradesOut,
)
async def trades(
    request: Request,
    symbol: Symbol,
    start: Annotated[Time | None, Query(description="An hour before the end by default.")] = None,
    end: Annotated[Time | None, Query(description="Not included; now by default.")] = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> Response:
    """Return trades with start <= event_time < end, by event time and then by id.

    A page looks at one day at most: over a long quiet time it may hold few trades, or none,
    and still lead to a next one.
    """
    accepted(request)
    last = end or datetime.now(timezone.utc)
    first, lowest_id = start or max(last - timedelta(hours=1), EPOCH), LOWEST_ID
    if first > last:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "start: it lies after the end")
    if cursor is not None:
        ms, lowest_id = parts_of(cursor, int, int)
        first = max(first, time_of(ms))
        if not LOWEST_ID <= lowest_id <= _HIGHEST_ID:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "cursor: it holds no trade")
    until = min(last, floor_to(_BUCKET, first) + _BUCKETS_A_PAGE * _BUCKET)

    def query(client: CassandraClient) -> list[dict[str, Any]]:
        found = client.trades_between(symbol, first, until, lowest_id, limit + 1)
        trades = islice(chain.from_iterable(found), limit + 1)
        return [_row(symbol, trade) for trade in trades]

    store = store_of(request)
    rows = await store.read(query)
    if not rows:
        await store.require_known(symbol)
    page, rest = rows[:limit], rows[limit:]
    following = None
    if rest:
        following = cursor_of(to_millis(rest[0]["event_time"]), rest[0]["trade_id"])
    elif until < last:
        following = cursor_of(to_millis(until), LOWEST_ID)
    content = {
        "symbol": symbol,
        "trades": [{**row, "trade_id": str(row["trade_id"])} for row in page],
        "next_cursor": following,
    }
    return answer(request, content, page, SCHEMA, MAY_CHANGE)


def _row(symbol: str, trade: tuple[Any, ...]) -> dict[str, Any]:
    row = dict(zip(SCHEMA.names, (symbol, *trade), strict=True))
    return {**row, **{name: from_millis(row[name]) for name in ("event_time", "received_at")}}
