"""Count every request and time it, by the route's pattern."""

from __future__ import annotations

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tapeline.program.metrics import API_DURATION, API_REQUESTS, Metrics

_UNTIMED: Final = "/v1/stream"


class Measured:
    """An application that is measured; it holds nothing back, so streams go through.

    Args:
        app: the application.
        metrics: of the API.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            pattern = getattr(scope.get("route"), "path", "").replace(":path", "")
            route = pattern or _unrouted(scope["path"])
            self._metrics[API_REQUESTS].labels(route, str(status)).inc()
            if route != _UNTIMED:
                self._metrics[API_DURATION].labels(route).observe(time.perf_counter() - started)


def _unrouted(path: str) -> str:
    """Name what has no route, but never by what a client asked for: that has no end."""
    return "/static" if path.startswith("/static/") else "none"
