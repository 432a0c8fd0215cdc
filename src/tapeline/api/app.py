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
from tapeline.api import bars_api, socket_api, status_api, stream_api, trades_api
from tapeline.api.feed_watch import FeedWatch
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
    """Return the application for one keyspace; it starts whether or not Cassandra answers."""
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
    app.state.counts = None
    add_handlers(app)
    checked = [Depends(require_known_parameters)]
    for module in (bars_api, trades_api, stream_api, status_api):
        app.include_router(module.router, dependencies=checked)
    app.include_router(socket_api.router)
    app.add_middleware(Measured, metrics=metrics)
    app.add_middleware(HeadAsGet)
    if settings.api.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.api.origins,
            allow_methods=["GET", "HEAD"],
            expose_headers=["*"],
        )

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
        return FileResponse(_STATIC / "index.html", headers=headers)

    described = app.openapi

    @cache
    def describe() -> dict[str, Any]:
        """Name the form of errors, which no route returns."""
        description = described()
        description["components"]["schemas"]["ProblemOut"] = ProblemOut.model_json_schema()
        return description

    app.openapi = describe  # type: ignore[method-assign]
    app.mount("/static", _Static(directory=_STATIC), name="static")
    return app


class _Static(StaticFiles):
    """Files of the page; a browser asks whether they have changed."""

    def file_response(self, *arguments: object, **named: object) -> Response:
        response = super().file_response(*arguments, **named)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response
