"""`/v1/ws`: the same events by WebSocket, with topics that may change."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Final, Literal

import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect, status
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tapeline.api.events import Event, told_event
from tapeline.api.limits import RequestLimits
from tapeline.api.listeners import Listener
from tapeline.api.live import Live
from tapeline.api.parameters import MOST_SYMBOLS, NAME, IntervalName
from tapeline.api.problems import Problem
from tapeline.api.topics import Channel, topics_of
from tapeline.model.threshold import require_time

log = structlog.get_logger()

router = APIRouter(prefix="/v1")

_SEND_TIMEOUT_S: Final = 30.0
_MOST_TOPICS: Final = 500


class Wish(BaseModel):
    """What a client asks for, one JSON object a message."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["subscribe", "unsubscribe"]
    symbols: list[Annotated[str, Field(pattern=NAME)]] = Field(
        min_length=1, max_length=MOST_SYMBOLS
    )
    interval: Annotated[IntervalName, BeforeValidator(require_time)] = IntervalName.FIVE_MINUTES
    channels: list[Channel] = [Channel.BARS]


@router.websocket("/ws")
async def socket(client: WebSocket) -> None:
    """Send events `bar`, `trade`, `state`, `subscribed`, `followed`, `unsubscribed`, `error`."""
    live: Live = client.app.state.live
    await client.accept()
    try:
        listener = live.register((), client.state.client)
    except Problem as problem:
        await client.close(status.WS_1013_TRY_AGAIN_LATER, problem.detail)
        return
    both = [
        asyncio.create_task(_send(client, live, listener)),
        asyncio.create_task(_receive(client, live, listener)),
    ]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    # Before Python 3.12 a wait that is over at the same moment swallows its cancellation.
    listener.end()
    for task in both:
        task.cancel()
    for outcome in await asyncio.gather(*both, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.info("socket_ended", reason=repr(outcome))
    live.leave(listener)
    with suppress(WebSocketDisconnect, RuntimeError):
        await client.close(status.WS_1001_GOING_AWAY)


async def _send(client: WebSocket, live: Live, listener: Listener) -> None:
    """Send what comes until the stream ends, or the client takes nothing."""
    async for events in live.events(listener):
        for event in events:
            await asyncio.wait_for(client.send_text(event.message), _SEND_TIMEOUT_S)


async def _receive(client: WebSocket, live: Live, listener: Listener) -> None:
    """Do what the client asks for until it goes."""
    limits: RequestLimits = client.app.state.limits
    while True:
        message = await client.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"], message.get("reason"))
        # A message counts as a request; what follows it is not read until there is room.
        while wait_s := limits.take(client.state.client):  # noqa: ASYNC110 - it says how long
            await asyncio.sleep(wait_s)
        text = message.get("text")
        _heed(live, listener, message["bytes"] if text is None else text)


def _heed(live: Live, listener: Listener, text: str | bytes) -> None:
    """Do what a message asks for, and answer; `followed` comes when what is wanted is."""
    try:
        wish = Wish.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "message"
        reason = first["msg"].removeprefix("Value error, ")
        listener.put(_refusal(f"{place}: {reason}"))
        return
    topics = topics_of(wish.symbols, [wish.interval.value], [c.value for c in wish.channels])
    if wish.action == "unsubscribe":
        live.unsubscribe(listener, topics)
    elif len(topics | listener.joined | listener.joining) > _MOST_TOPICS:
        listener.put(_refusal(f"symbols: {_MOST_TOPICS} topics are the most"))
        return
    else:
        live.subscribe(listener, topics)
    names = {"symbols": wish.symbols, "interval": wish.interval, "channels": wish.channels}
    listener.put(told_event(f"{wish.action}d", names))
    if wish.action == "subscribe":
        listener.put_when_followed(topics, told_event("followed", names))


def _refusal(detail: str) -> Event:
    return told_event("error", {"detail": detail})
