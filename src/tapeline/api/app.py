"""The application: store, live push, routes, page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import Depends, FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from tapeline import __version__
from tapeline.api import (
    bars_api,
    session_api,
    socket_api,
    status_api,
    stream_api,
    symbols_api,
    trades_api,
)
from tapeline.api.feed_watch import FeedWatch
from tapeline.api.guard import OPEN_PATHS, Guard
from tapeline.api.keys import Keys
from tapeline.api.limits import RequestLimits
from tapeline.api.live import Live
from tapeline.api.measure import Measured
from tapeline.api.models import ProblemOut
from tapeline.api.problems import add_handlers
from tapeline.api.requests import HeadAsGet, require_known_parameters
from tapeline.api.store import Store
from tapeline.program.metrics import API_METRICS, Metrics
from tapeline.program.settings import Settings
from tapeline.program.tasks import cancel

_STATIC: Final = Path(__file__).parent / "static"
_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page asks nothing of any other host. The chart's library sets styles in the page."""


def create_app(settings: Settings) -> FastAPI:
    """Return the application for one keyspace; it starts whether or not Cassandra answers.

    Raises:
        UsageError: the file of keys cannot be used.
    """
    keys = None if settings.api.keys_file is None else Keys(settings.api.keys_file)
    metrics = Metrics(API_METRICS)
    store = Store(settings, metrics)
    live = Live(store, metrics, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.feed_watch = FeedWatch(settings)
        task = asyncio.create_task(live.run())
        yield
        await cancel(task)
        app.state.feed_watch.close()
        store.close()

    app = FastAPI(
        title="Tapeline",
        version=__version__,
        summary="Real-time market bars you can trust.",
        description=(
            "Times are UTC, prices and volumes are those of the feed. Every error is "
            "`application/problem+json`. Pages go on with `next_cursor`."
        ),
        lifespan=lifespan,
        # Their pages load scripts from another host; /openapi.json says the same.
        docs_url=None,
        redoc_url=None,
    )
    app.state.store, app.state.live, app.state.metrics = store, live, metrics
    app.state.settings, app.state.counts = settings, None
    app.state.limits = RequestLimits(settings.api.request_rate, settings.api.burst)
    # A browser has one jar for all ports of a host, on which several keyspaces may be served.
    app.state.keys, app.state.cookie = keys, f"tapeline_{store.keyspace}"
    add_handlers(app)
    checked = [Depends(require_known_parameters)]
    for module in (bars_api, trades_api, stream_api, symbols_api, status_api):
        app.include_router(module.router, dependencies=checked)
    app.include_router(socket_api.router)
    if keys is not None:
        app.include_router(session_api.router)
    _add_middleware(app, settings)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
        return FileResponse(_STATIC / "index.html", headers=headers)

    _describe(app)
    app.mount("/static", _Static(directory=_STATIC), name="static")
    return app


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """Put around the application what each request passes, the innermost first."""
    metrics, origins = app.state.metrics, settings.api.origins
    app.add_middleware(
        Guard,
        keys=app.state.keys,
        limits=app.state.limits,
        metrics=metrics,
        cookie=app.state.cookie,
        origins=origins,
    )
    app.add_middleware(Measured, metrics=metrics)
    app.add_middleware(HeadAsGet)
    if origins:
        # Without credentials, as browsers call them: our cookie serves our own page alone.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD"],
            allow_headers=["Authorization", "X-API-Key", "Last-Event-ID"],
            expose_headers=["*"],
        )


def _describe(app: FastAPI) -> None:
    """Add to the description what no route says: the form of errors, and the keys."""
    described = app.openapi

    @cache
    def describe() -> dict[str, Any]:
        description = described()
        description["components"]["schemas"]["ProblemOut"] = ProblemOut.model_json_schema()
        if app.state.keys is not None:
            header = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
            schemes = {"bearer": {"type": "http", "scheme": "bearer"}, "header": header}
            description["components"]["securitySchemes"] = schemes
            description["security"] = [{name: []} for name in schemes]
            for path in OPEN_PATHS & description["paths"].keys():
                description["paths"][path]["get"]["security"] = []
        return description

    app.openapi = describe  # type: ignore[method-assign]


class _Static(StaticFiles):
    """Files of the page; a browser asks whether they have changed."""

    def file_response(self, *arguments: object, **named: object) -> Response:
        response = super().file_response(*arguments, **named)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response
