"""`tapeline api`: arguments → settings → application → serve."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Annotated, Final

import typer
import uvicorn
from fastapi import FastAPI

from tapeline.api.app import create_app
from tapeline.api.live import Live
from tapeline.local.discovery import find_endpoints
from tapeline.local.service import LOOPBACK
from tapeline.model.errors import UsageError
from tapeline.program.logs import configure_logging
from tapeline.program.options import ListenHost, port_option
from tapeline.program.process import STOP_LIMIT_S, end_with_parent, exit_stopped, limit_end
from tapeline.program.settings import API_PORT, Settings, load_settings

_BACKLOG: Final = 1024


def _valid_path(text: str) -> str:
    if text and not re.fullmatch(r"(/[^\s/?#]+)*/?", text):
        message = f"{text!r} is not a valid path: give one such as /tapeline."
        raise typer.BadParameter(message)
    return text


def api(
    host: ListenHost = LOOPBACK,
    port: Annotated[int, port_option("0 takes any.", least=0)] = API_PORT,
    root_path: Annotated[
        str,
        typer.Option(
            callback=_valid_path, help="Path under which a proxy serves us, as /tapeline."
        ),
    ] = "",
    keyspace: Annotated[str | None, typer.Option(help="market_data by default.")] = None,
    topic: Annotated[
        str | None, typer.Option(help="Topic whose feed is shown; trades_raw by default.")
    ] = None,
    allow_anyone: Annotated[
        bool, typer.Option("--allow-anyone", help="Listen on a network though no keys are set.")
    ] = False,
) -> None:
    """Serve bars over HTTP, live push, and a page that draws them.

    Example: tapeline api --keyspace demo --topic demo
    """
    settings = load_settings().with_target(keyspace=keyspace, topic=topic)
    configure_logging(settings)
    # What it says of a Cassandra that is away, at length and often, our own log says once.
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)
    end_with_parent()
    app = create_app(settings)
    listening = listen(host, port)
    if not allow_anyone and settings.api.keys_file is None:
        require_loopback(listening)
    address = f"http://{host}:{listening.getsockname()[1]}"
    typer.echo(f"Using {find_endpoints(settings)}", err=True)
    typer.echo(
        f"Page {address}/, API {address}/v1, its description {address}/openapi.json", err=True
    )
    config = server_config(app, settings, root_path)
    asyncio.run(_Server(config, app.state.live).serve(sockets=[listening]))
    exit_stopped()


def server_config(app: FastAPI, settings: Settings, root_path: str = "") -> uvicorn.Config:
    """Return how the application is served; nobody but our own proxies says for whom it asks."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
        backlog=_BACKLOG,
        ws="websockets-sansio",
        root_path=root_path.rstrip("/"),
        proxy_headers=bool(settings.api.proxies),
        forwarded_allow_ips=settings.api.proxies,
    )


class _Server(uvicorn.Server):
    """Ends open streams first, which would otherwise hold up the end forever."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        limit_end(STOP_LIMIT_S)
        self._live.listeners.close()
        self.should_exit = True


def require_loopback(listening: socket.socket) -> None:
    """Refuse an address that other machines may reach, and close it.

    Raises:
        UsageError: it is none of this machine alone.
    """
    host, port = listening.getsockname()[:2]
    if ip_address(host).is_loopback:
        return
    listening.close()
    message = (
        f"Everyone who reaches {host}:{port} could read all of it: name a file of keys in "
        "TAPELINE_API__KEYS_FILE (docs/api.md), or add --allow-anyone where that is meant."
    )
    raise UsageError(message)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any free one.

    Raises:
        UsageError: the address cannot be listened on.
    """
    try:
        listening = socket.create_server((host, port), backlog=_BACKLOG, reuse_port=False)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        message = (
            f"{host}:{port} cannot be listened on ({reason}): choose another "
            "address with --host and --port; --port 0 takes any free one."
        )
        raise UsageError(message) from error
    # asyncio does this for sockets of its own making only. Connections take it over; without it
    # the body of an answer waits 40 ms for the client to acknowledge the head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
