"""`/v1/session`: a key given once, for a cookie that a browser shows instead.

A browser sets no headers on a WebSocket or an `EventSource`, and what stands in an address is
written to logs. No script can read the cookie, and no page of another site makes it be sent.
"""

from __future__ import annotations

import time
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from tapeline.api.guard import key_in
from tapeline.api.keys import SESSION_S, Keys
from tapeline.api.problems import Problem

router = APIRouter(prefix="/v1", tags=["status"])


@router.post(
    "/session", status_code=HTTPStatus.NO_CONTENT, summary="A key for a cookie of seven days"
)
async def open_session(request: Request) -> Response:
    """Set the cookie that WebSockets and event streams of a browser need."""
    keys: Keys = request.app.state.keys
    key = key_in(request.headers)
    session = keys.open_session(key, time.time()) if key else None
    if session is None:
        detail = "key: send it as the header X-API-Key, for a cookie"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    answer = Response(status_code=HTTPStatus.NO_CONTENT, headers={"Cache-Control": "no-store"})
    answer.set_cookie(
        request.app.state.cookie,
        session,
        max_age=SESSION_S,
        path=request.scope.get("root_path") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer
