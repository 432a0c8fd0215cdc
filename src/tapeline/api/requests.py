"""What HTTP clients take for granted: HEAD, and no parameter that is ignored in silence."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tapeline.api.problems import Problem

_LONGEST_SHOWN: Final = 100
_MEANT: Final[Mapping[str, str]] = {
    "from": "start",
    "since": "start",
    "to": "end",
    "until": "end",
    "symbol": "symbols",
    "ticker": "symbols",
    "tickers": "symbols",
    "timeframe": "interval",
    "resolution": "interval",
    "page_token": "cursor",
    "next_cursor": "cursor",
}
"""What other services call our parameters."""


async def require_known_parameters(request: Request) -> None:
    """Check that a request's parameters are those of its route, each once but for lists.

    Raises:
        Problem: 422, it names the parameter, and the one that was probably meant.
    """
    route = request.scope["route"]
    operation = request.app.openapi()["paths"][route.path_format][request.method.lower()]
    known: dict[str, dict[str, Any]] = {
        parameter["name"]: parameter["schema"]
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
    }
    for name in request.query_params:
        if name not in known:
            shown = name[:_LONGEST_SHOWN] if name.isprintable() else ascii(name[:_LONGEST_SHOWN])
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{shown}: {_hint(name, list(known))}")
        if known[name].get("type") != "array" and len(request.query_params.getlist(name)) > 1:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: give it once")


def _hint(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    meant = _MEANT.get(name.lower(), near[0] if near else None)
    if meant in known:
        return f"there is no such parameter here; {meant} may be meant"
    return f"there is no such parameter here; there are {', '.join(known) or 'none'}"


class HeadAsGet:
    """An application that answers HEAD as it answers GET, without the body.

    Args:
        app: the application; what it would stream is not begun.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            else:
                await send({"type": "http.response.body"})
                raise _Answered

        with suppress(_Answered):
            await self._app({**scope, "method": "GET"}, receive, send_head)


class _Answered(Exception):  # noqa: N818 - no error
    """Ends the application, whose answer is complete."""
