"""`/v1/stream`: changes of bars, and trades, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, Final

import anyio
import structlog
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator
from starlette.types import Message, Receive, Scope, Send

from tapeline.api.listeners import Listener
from tapeline.api.live import Live
from tapeline.api.models import PROBLEMS
from tapeline.api.parameters import Symbols
from tapeline.api.topics import ANY_CHANNELS, ANY_INTERVALS, topics_of
from tapeline.model.threshold import require_time

log = structlog.get_logger()

router = APIRouter(prefix="/v1", tags=["live"], responses=PROBLEMS)

_SEND_TIMEOUT_S: Final = 30.0
_EXAMPLE: Final = (
    'event: state\nid: 1795186200512\ndata: {"store":"up","live":"up"}\n\n'
    "event: bar\n"
    'data: {"symbol":"AAPL","window_start":"2026-11-20T14:35:00Z", … ,"interval":"5m"}\n\n'
)
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events `bar`, `trade`, `state` and `reset`, until the client goes.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}


class _EventStream(StreamingResponse):
    """A stream whose client must take what is sent in time; at its end its listener leaves."""

    media_type = "text/event-stream"

    def __init__(self, live: Live, listener: Listener) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(_events(live, listener), headers=headers)
        self._leave = partial(live.leave, listener)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            with anyio.fail_after(_SEND_TIMEOUT_S):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            log.warning("listener_cut", reason="it takes nothing")


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses=_ANSWERS,
    response_model=None,
    summary="Bars as they change, and trades",
)
async def stream(
    request: Request,
    symbols: Symbols,
    interval: Annotated[
        str,
        BeforeValidator(require_time),
        Query(pattern=ANY_INTERVALS, description="One length of bars or several."),
    ] = "5m",
    channels: Annotated[
        str, Query(pattern=ANY_CHANNELS, description="`bars`, `trades` or both.")
    ] = "bars",
    last_event_id: Annotated[str | None, Header(description="The browser sends it.")] = None,
) -> _EventStream:
    """Send each change of a bar as event `bar`: provisional, final and revised; and trades.

    A stream begins with the newest bars. Of a bar that changes often some ten states a second
    come, the newest always. A bar is known by symbol, interval and start. A stream that comes
    back after it broke begins with `reset`: read the bars again. `state` comes every few seconds
    and says whether the store answers and whether the live view keeps up.
    """
    live: Live = request.app.state.live
    topics = topics_of(symbols, interval.split(","), channels.split(","))
    return _EventStream(live, live.register(topics, request.state.client, last_event_id))


async def _events(live: Live, listener: Listener) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    async for events in live.events(listener):
        yield b"".join(event.sse for event in events)
