"""Who may ask, and how much: keys and limits, before anything else is done for a request."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NoReturn

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tapeline.api.keys import Keys
from tapeline.api.limits import RequestLimits, client_at
from tapeline.api.problems import Problem
from tapeline.program.metrics import API_REFUSED, Metrics

OPEN_PATHS: Final = frozenset({"/", "/health/live", "/health/ready"})
"""They ask for no key: the page, which has to ask for one itself, and probes."""
_OPEN_FOLDER: Final = "/static/"
_HEADERS: Final = "`Authorization: Bearer …` or `X-API-Key: …`"


class Guard:
    """An application behind keys and limits.

    Whom limits count is kept in the request's state as `client`, "" for one without limits, and as
    `key_name` whose key it has, None without one.

    Args:
        app: the application.
        keys: of which a request needs one; None asks for none.
        limits: of requests.
        metrics: of the API.
        cookie: the name of the cookie with a session.
        origins: whose pages may read.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys | None,
        limits: RequestLimits,
        metrics: Metrics,
        cookie: str,
        origins: list[str],
    ) -> None:
        self._app = app
        self._keys = keys
        self._limits = limits
        self._metrics = metrics
        self._cookie = cookie
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        try:
            client, name = self._admit(scope)
            scope.setdefault("state", {}).update(client=client, key_name=name)
        except Problem as problem:
            await problem.answer()(scope, receive, send)
            return
        await self._app(scope, receive, send if self._keys is None else _private(send))

    def _admit(self, scope: Scope) -> tuple[str, str | None]:
        """Return whom limits count, and whose key it is.

        Raises:
            Problem: 429, it asks too often; 401, it has no key of ours; 403, it has one and comes
                from a page of another origin.
        """
        address = client_at(scope["client"][0] if scope.get("client") else None)
        if self._keys is None:
            return self._limited(address), None
        asked = HTTPConnection(scope)
        key = key_in(asked.headers)
        session = asked.cookies.get(self._cookie, "")
        if key is not None:
            name = self._keys.name_of(key)
        else:
            name = self._keys.name_of_session(session, time.time())
        client = self._limited(address if name is None else f"key {name}")
        if name is None:
            if not _is_open(scope):
                self._refuse("no_key" if key is None else "wrong_key", _no_key(key))
        elif key is None and scope["type"] == "websocket" and not self._is_ours(asked.headers):
            self._refuse("origin", _other_origin())
        return client, name

    def _limited(self, client: str) -> str:
        wait_s = self._limits.take(client)
        if wait_s:
            self._refuse("requests", _too_many(wait_s))
        return client

    def _refuse(self, reason: str, problem: Problem) -> NoReturn:
        self._metrics[API_REFUSED].labels(reason).inc()
        raise problem

    def _is_ours(self, headers: Mapping[str, str]) -> bool:
        """Return whether the page that opens a socket may: browsers let every page open one.

        A cookie of this host is sent along from pages of its other ports too.
        """
        origin = headers.get("origin")
        if origin is None or origin in self._origins:
            return True
        return origin.partition("://")[2] == headers.get("host")


def key_in(headers: Mapping[str, str]) -> str | None:
    """Return the key that a request gives in a header, with a `Bearer` before it or without."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip() or None
    return headers.get("x-api-key", "").strip() or None


def _too_many(wait_s: float) -> Problem:
    """Return what to answer to who asks too often."""
    seconds = math.ceil(wait_s)
    detail = f"There are too many requests from here: ask again in {seconds} s."
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(seconds)})


def _no_key(key: str | None) -> Problem:
    detail, wrong = f"A key is needed here: send it as {_HEADERS}.", ""
    if key is not None:
        detail = f"That key is not known here: send another as {_HEADERS}."
        wrong = ', error="invalid_token"'
    headers = {"WWW-Authenticate": f'Bearer realm="tapeline"{wrong}'}
    return Problem(HTTPStatus.UNAUTHORIZED, detail, headers)


def _other_origin() -> Problem:
    detail = (
        "A page of another origin may not use this browser's session: name its origin in "
        "TAPELINE_API__CORS_ORIGINS, or let the proxy pass on the header Host as it came."
    )
    return Problem(HTTPStatus.FORBIDDEN, detail)


def _is_open(scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    is_open = path in OPEN_PATHS or path.startswith(_OPEN_FOLDER)
    return scope["type"] == "http" and is_open


def _private(send: Send) -> Send:
    """Let no cache keep for everybody what was sent to one who has a key."""

    async def send_private(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, value.replace(b"public", b"private") if name == b"cache-control" else value)
                for name, value in message["headers"]
            ]
        await send(message)

    return send_private
