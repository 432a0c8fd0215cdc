"""The application: store, live push, routes, page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from tapeline import __version__
from tapeline.api import bars_api, status_api, stream_api
from tapeline.api.live import Live, close_quietly
from tapeline.api.problems import add_handlers
from tapeline.api.store import Store
from tapeline.settings import Settings

_STATIC: Final = Path(__file__).parent / "static"


def create_app(settings: Settings) -> FastAPI:
    """Return the application for one keyspace; it starts whether or not Cassandra answers."""
    store = Store(settings)
    live = Live(store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(live.run())
        yield
        await close_quietly(task)
        store.close()

    app = FastAPI(
        title="Tapeline",
        version=__version__,
        summary="Real-time market bars you can trust.",
        lifespan=lifespan,
    )
    app.state.store = store
    app.state.live = live
    app.state.delay = timedelta(seconds=settings.stream.watermark_s)
    add_handlers(app)
    for module in (bars_api, stream_api, status_api):
        app.include_router(module.router)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    return app
