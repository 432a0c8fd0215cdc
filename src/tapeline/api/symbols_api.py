"""`/v1/symbols`: what has bars, and what producers shall receive."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request, Response

from tapeline.api.bars_api import store_of
from tapeline.api.feed_watch import FeedWatch
from tapeline.api.formats import MAY_CHANGE, to_json
from tapeline.api.models import FORBIDDEN, PROBLEMS, SymbolChangeOut, SymbolsOut
from tapeline.api.parameters import Symbol
from tapeline.api.problems import Problem
from tapeline.feeds.known import Source
from tapeline.kafka.symbol_changes import send_changes
from tapeline.local.discovery import find_endpoints
from tapeline.model.errors import TapelineError, UsageError
from tapeline.model.symbol_change import SymbolChange
from tapeline.model.symbols import parse_symbols
from tapeline.model.times import now_us
from tapeline.program.loopback import is_loopback
from tapeline.program.settings import Settings
from tapeline.status.symbols import changes_to, running

router = APIRouter(
    prefix="/v1", tags=["symbols"], responses={n: PROBLEMS[n] for n in (401, 429, 503)}
)

_KAFKA_S: Final = 10.0
_LOCAL: Final = ["local"]
_ACCEPTED: Final[dict[str, Any]] = {
    "status_code": HTTPStatus.ACCEPTED,
    "response_model": SymbolChangeOut,
    "responses": {**FORBIDDEN, 422: PROBLEMS[422]},
}

From = Annotated[
    Source | None,
    Query(description="Whose symbol it is; by default the feed that runs and has such."),
]


@router.get("/symbols", summary="Every symbol that has bars", response_model=SymbolsOut)
async def symbols(request: Request) -> Response:
    """Return the symbols of the keyspace in alphabetical order."""
    found = await store_of(request).symbols()
    content = {"symbols": sorted(found), "may_change": why_not(request) is None}
    return Response(
        to_json(content), headers={"Cache-Control": MAY_CHANGE}, media_type="application/json"
    )


@router.put(
    "/symbols/{symbol:path}",
    summary="Receive a symbol from now on",
    **_ACCEPTED,
)
async def add_symbol(request: Request, symbol: Symbol, source: From = None) -> SymbolChangeOut:
    """Let producers that run ask for a symbol as well; its bars appear as it trades."""
    return await _change(request, symbol, source, is_wanted=True)


@router.delete(
    "/symbols/{symbol:path}",
    summary="Receive a symbol no longer",
    **_ACCEPTED,
)
async def remove_symbol(request: Request, symbol: Symbol, source: From = None) -> SymbolChangeOut:
    """Let producers that run ask for a symbol no longer; its bars stay."""
    return await _change(request, symbol, source, is_wanted=False)


def why_not(request: Request) -> str | None:
    """Return why who asks may not change symbols; None if they may."""
    app = request.app
    allowed = app.state.settings.api.may_change_symbols
    if app.state.keys is not None:
        if request.state.key_name in allowed:
            return None
        return "This key may not change symbols: name it in TAPELINE_API__SYMBOL_CHANGES."
    if allowed != _LOCAL:
        return "Nobody may change symbols here: set TAPELINE_API__SYMBOL_CHANGES to local."
    if not (request.client and is_loopback(request.client.host) and is_loopback(_host(request))):
        # The host's name as well: another site may give its own name this machine's address.
        return "Symbols are changed from this machine alone: set keys for others (docs/api.md)."
    return None


def _host(request: Request) -> str:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


async def _change(
    request: Request, name: str, source: Source | None, *, is_wanted: bool
) -> SymbolChangeOut:
    if reason := why_not(request):
        raise Problem(HTTPStatus.FORBIDDEN, reason)
    settings: Settings = request.app.state.settings
    watch: FeedWatch = request.app.state.feed_watch
    try:
        names = parse_symbols(name)
        feed = await asyncio.to_thread(watch.wait, _KAFKA_S)
        if feed is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, watch.failure)
        topic, wanted = settings.kafka.topic, source and source.value
        (change,) = changes_to(feed, topic, names, wanted, now_us(), is_wanted=is_wanted)
        await asyncio.to_thread(_send, settings, change)
    except UsageError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"symbol: {error}") from error
    except TapelineError as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
    producers = sum(status.source_name == change.source for status in running(feed))
    return SymbolChangeOut(
        symbol=change.symbol, source=change.source, is_wanted=is_wanted, producers=producers
    )


def _send(settings: Settings, change: SymbolChange) -> None:
    send_changes(find_endpoints(settings).bootstrap_servers, settings.kafka, [change])
