"""`tapeline api` as users run it, in a process of its own, and a listener to its stream."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx
import uvicorn
from fastapi import FastAPI

from tapeline.api.app import create_app
from tapeline.api.main import server_config
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.program.settings import ApiSettings, load_settings

from .commands import wait_for


class ServedApi:
    """A running `tapeline api`, which can be killed and started again on its port."""

    def __init__(
        self,
        keyspace: str,
        environment: dict[str, str] | None = None,
        topic: str | None = None,
    ) -> None:
        self._topic = topic or keyspace
        self.port = free_port(0)
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._keyspace = keyspace
        self._environment = environment or {}
        self.process = self._start()

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it as an operator does; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def start(self) -> None:
        """Start it again."""
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tapeline", "api", "--port", str(self.port)]
        command += ["--keyspace", self._keyspace, "--topic", self._topic]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env={**os.environ, **self._environment}
        )
        wait_for(lambda: process.poll() is not None or self._answers())
        assert process.poll() is None, process.returncode
        return process

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/live", timeout=10).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def serving(app: FastAPI, config: uvicorn.Config | None = None) -> Iterator[httpx.Client]:
    """Serve an application in this process for a while; yields a client of it."""
    port = free_port(0)
    config = config or uvicorn.Config(app, log_level="error")
    config.host, config.port = LOOPBACK, port
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(60)


def keys_in(folder: Path, **keys: str) -> Path:
    """Write a file of keys, by their names, that its owner alone may read."""
    file = folder / "keys"
    file.write_text("".join(f"{name}:{key}\n" for name, key in keys.items()), encoding="utf-8")
    file.chmod(0o600)
    return file


@contextmanager
def serving_with(root_path: str = "", **values: Any) -> Iterator[httpx.Client]:
    """Serve the API as `tapeline api` does, with some of its settings; its Cassandra is away."""
    settings = load_settings()
    cassandra = settings.cassandra.model_copy(update={"host": LOOPBACK, "port": 9})
    update = {"cassandra": cassandra, "api": ApiSettings(**values)}
    settings = settings.model_copy(update=update)
    app = create_app(settings)
    with serving(app, server_config(app, settings, root_path)) as client:
        yield client


def under_path(path: str, app: FastAPI) -> FastAPI:
    """Return an application that serves another one under a path, as a proxy does."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with app.router.lifespan_context(app):
            yield

    outer = FastAPI(lifespan=lifespan)
    outer.mount(path, app)
    return outer


@contextmanager
def served_api(
    keyspace: str, environment: dict[str, str] | None = None, topic: str | None = None
) -> Iterator[ServedApi]:
    """Run `tapeline api` for a while, on the topic of the keyspace's name or another one."""
    api = ServedApi(keyspace, environment, topic)
    try:
        yield api
    finally:
        if api.process.poll() is None:
            api.stop()


get = partial(httpx.get, timeout=60)
T = TypeVar("T")


class Reader(Generic[T]):
    """Reads an endless stream in a thread of its own and keeps what came."""

    def __init__(self, stream: Iterator[T]) -> None:
        self.items: list[T] = []
        self.thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self.thread.start()

    def _read(self, stream: Iterator[T]) -> None:
        for item in stream:
            self.items.append(item)

    def has(self, many: int) -> bool:
        return len(self.items) >= many

    def join(self) -> None:
        """Wait for the end of a stream that was closed."""
        self.thread.join(60)
        assert not self.thread.is_alive()


Heard = AsyncIterator[tuple[str, dict[str, Any]]]
"""The name and the data of each event."""


@asynccontextmanager
async def listening(
    url: str,
    symbols: str,
    *,
    last_id: int | None = None,
    interval: str = "5m",
    channels: str = "bars",
) -> AsyncIterator[Heard]:
    """Listen to a stream."""
    headers = {} if last_id is None else {"Last-Event-ID": str(last_id)}
    query = {"symbols": symbols, "interval": interval, "channels": channels}
    async with (
        httpx.AsyncClient(timeout=60) as http,
        http.stream("GET", f"{url}/v1/stream", params=query, headers=headers) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        yield _events(answer.aiter_lines())


async def _events(lines: AsyncIterator[str]) -> Heard:
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
            continue
        if "event" in fields:
            yield fields["event"], json.loads(fields["data"])
        fields = {}


async def until(heard: Heard, name: str, wanted: Callable[[dict[str, Any]], bool]) -> Any:
    """Listen until an event comes that is wanted; return its data."""
    async for event, data in heard:
        if event == name and wanted(data):
            return data
    raise AssertionError
