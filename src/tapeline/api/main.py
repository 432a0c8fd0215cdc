"""`tapeline api`: arguments → settings → application → serve."""

from __future__ import annotations

from typing import Annotated, Final

import typer
import uvicorn

from tapeline.api.app import create_app
from tapeline.local.discovery import find_endpoints
from tapeline.local.service import LOOPBACK
from tapeline.logs import configure_logging
from tapeline.process import end_with_parent
from tapeline.settings import load_settings

DEFAULT_PORT: Final = 8700


def api(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines too.")
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = DEFAULT_PORT,
    keyspace: Annotated[str | None, typer.Option(help="market_data by default.")] = None,
) -> None:
    """Serve bars over HTTP, live push, and a page that draws them.

    Example: tapeline api --keyspace demo
    """
    settings = load_settings().with_target(keyspace=keyspace)
    configure_logging(settings.log_level)
    end_with_parent()
    typer.echo(f"Using {find_endpoints(settings)}", err=True)
    typer.echo(f"Page http://{host}:{port}/, documentation http://{host}:{port}/docs", err=True)
    uvicorn.run(create_app(settings), host=host, port=port, log_level="warning", access_log=False)
