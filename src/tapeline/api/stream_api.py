"""`/v1/stream`: changes of bars as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tapeline.api.bars_api import bar_out, split_symbols
from tapeline.api.live import Live, SlowListenerError
from tapeline.bar import Interval

router = APIRouter(prefix="/v1", tags=["live"])


@router.get("/stream", response_class=EventSourceResponse, summary="Bars as they change")
async def stream(
    request: Request,
    symbols: Annotated[str, Query(examples=["AAPL,BINANCE:BTCUSDT"], max_length=10_000)],
    interval: Interval = Interval.FIVE_MINUTES,
    last_event_id: Annotated[int | None, Header(description="The browser sends it.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Send each change of a bar: provisional, final and revised.

    The same change may come twice after a reconnect; a bar is known by symbol and start.
    """
    live: Live = request.app.state.live
    try:
        async for event in live.events(split_symbols(symbols), interval, last_event_id):
            if event is None:
                yield ServerSentEvent(event="state", data={"store": live.state})
            else:
                yield ServerSentEvent(event="bar", id=str(event.number), data=bar_out(event.bar))
    except SlowListenerError:
        return
