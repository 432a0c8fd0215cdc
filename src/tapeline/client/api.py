"""The API as a client sees it: answers to GET, and the events of its WebSocket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request

import orjson
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tapeline.model.errors import ServiceUnavailableError, UsageError
from tapeline.program.loopback import is_loopback, opener_for
from tapeline.program.setting_types import can_be_looked_up

DEFAULT_URL: Final = "http://127.0.0.1:8700"
_TIMEOUT_S: Final = 30.0
_SKEW: Final = timedelta(minutes=10)
_SILENCE_S: Final = 20.0
"""The API says something every five seconds."""

Told = tuple[str, dict[str, Any]]
"""The name and the data of an event."""


class UnknownError(UsageError):
    """The API has nothing of that name."""


class Api:
    """A running `tapeline api`.

    Args:
        url: its address, with the path under which a proxy serves it.
        key: of the API, if it asks for one.
        timeout_s: as long an answer may take.

    Raises:
        ValueError: the address is not a valid one.
    """

    def __init__(
        self, url: str = DEFAULT_URL, key: str | None = None, timeout_s: float = _TIMEOUT_S
    ) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in {"http", "https"} or not can_be_looked_up(host):
            message = f"{url} is not a valid address of an API: give one like {DEFAULT_URL}."
            raise ValueError(message)
        self._timeout_s = timeout_s
        self._url = url.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._is_here = is_loopback(host)
        self._opener = opener_for(host)

    def get(self, path: str, **parameters: object) -> dict[str, Any]:
        """Return the answer of a path; one who asks too often waits as long as the API says.

        Raises:
            UnknownError: there is nothing of that name.
            UsageError: the API refuses what is asked for.
            ServiceUnavailableError: it does not answer, or cannot for the moment.
        """
        query = urlencode({name: p for name, p in parameters.items() if p is not None})
        request = Request(f"{self._url}{path}?{query}", headers=self._headers)  # noqa: S310 - checked
        while True:
            try:
                with self._opener.open(request, timeout=self._timeout_s) as answer:
                    found: dict[str, Any] = orjson.loads(answer.read())
                    return found
            except HTTPError as error:
                with error:
                    if error.code != HTTPStatus.TOO_MANY_REQUESTS:
                        raise _refused(error.code, error.read()) from error
                    seconds = error.headers.get("Retry-After", "")
                    time.sleep(int(seconds) if seconds.isdecimal() else 1)
            except (OSError, HTTPException, ValueError) as error:
                raise self._silent() from error

    def pages(self, path: str, start: datetime, **parameters: object) -> Iterator[dict[str, Any]]:
        """Yield the answers of a path, each when it is asked for; none of what is not known there.

        Args:
            path: of bars or trades.
            start: their first time; rows of some minutes before it come too if it lies ahead.
            parameters: others of the path.

        Raises:
            UsageError: the API refuses what is asked for.
            ServiceUnavailableError: it does not answer, or cannot for the moment.
        """
        # The API refuses a start that is ahead of its clock, which may be behind ours.
        first = min(start, datetime.now(timezone.utc) - _SKEW).isoformat()
        cursor = None
        while True:
            try:
                page = self.get(path, start=first, **parameters, cursor=cursor)
            except UnknownError:
                return
            yield page
            cursor = page["next_cursor"]
            if cursor is None:
                return

    @contextmanager
    def listen(self) -> Iterator[Events]:
        """Open a WebSocket for a while.

        Raises:
            UsageError: the API does not let us in.
            ServiceUnavailableError: it does not answer, or has gone.
        """
        url = f"{self._url.replace('http', 'ws', 1)}/v1/ws"
        try:
            with connect(
                url, additional_headers=self._headers, proxy=None if self._is_here else True
            ) as socket:
                yield Events(socket)
        except InvalidStatus as error:
            raise _refused(error.response.status_code, error.response.body) from error
        except (OSError, WebSocketException) as error:
            raise self._silent() from error

    def _silent(self) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            f"No API answers at {self._url}: start it with `tapeline api`, or name it with url=."
        )


class Events:
    """What the API tells by a WebSocket."""

    def __init__(self, socket: Connection) -> None:
        self._socket = socket

    def send(self, **wish: object) -> None:
        """Ask for something."""
        self._socket.send(orjson.dumps(wish).decode())

    def next(self) -> Told:
        """Wait for the next event.

        Raises:
            UsageError: the API has refused what we asked for.
            OSError: it says nothing any more.
        """
        return _read(self._socket.recv(_SILENCE_S))

    def waiting(self) -> Iterator[Told]:
        """Yield the events that have come already."""
        try:
            while True:
                yield _read(self._socket.recv(0))
        except TimeoutError:
            return

    def close(self) -> None:
        """End the connection; from any thread."""
        self._socket.close()


def _read(message: str | bytes) -> Told:
    told = orjson.loads(message)
    name, data = told["event"], told["data"]
    if name == "error":
        raise UsageError(data["detail"])
    return name, data


def _refused(status: int, body: bytes | bytearray) -> UsageError | ServiceUnavailableError:
    try:
        detail = orjson.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = f"The API answers with status {status}."
    is_for_now = (
        status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
    )
    if is_for_now:
        return ServiceUnavailableError(detail)
    return (UnknownError if status == HTTPStatus.NOT_FOUND else UsageError)(detail)
