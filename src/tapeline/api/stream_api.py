"""`/v1/stream`: changes of bars as server-sent events."""

from __future__ import annotations

from typing import Annotated, Any, Final

import anyio
import structlog
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Send

from tapeline.api.live import Live
from tapeline.api.models import PROBLEMS
from tapeline.api.parameters import Symbols
from tapeline.bar import Interval

log = structlog.get_logger()

router = APIRouter(prefix="/v1", tags=["live"], responses=PROBLEMS)

_SEND_TIMEOUT_S: Final = 30.0
_EXAMPLE: Final = (
    "event: bar\nid: 1795186200512\n"
    'data: {"symbol":"AAPL","window_start":"2026-11-20T14:35:00Z", … ,"interval":"5m"}\n\n'
)
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events `bar`, `state` and `reset`, until the client goes.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}


class _EventStream(StreamingResponse):
    """A stream whose client must take what is sent within a time."""

    media_type = "text/event-stream"

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
    response_class=_EventStream,
    responses=_ANSWERS,
    response_model=None,
    summary="Bars as they change",
)
async def stream(
    request: Request,
    symbols: Symbols,
    interval: Interval = Interval.FIVE_MINUTES,
    last_event_id: Annotated[str | None, Header(description="The browser sends it.")] = None,
) -> _EventStream:
    """Send each change of a bar as event `bar`: provisional, final and revised.

    A stream begins with the newest bars. With the id of the last event that was got it goes on
    from there: no final bar is left out, some may come twice; a bar is known by symbol,
    interval and start. After `reset` too much has changed: read the bars anew. `state` comes
    every few seconds and says whether the store answers.
    """
    live: Live = request.app.state.live
    listener = live.register(symbols, interval, last_event_id)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return _EventStream(live.events(listener), headers=headers)
