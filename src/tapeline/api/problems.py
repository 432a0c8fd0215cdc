"""Errors as `application/problem+json` (RFC 9457): what went wrong and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
_LATER: Final = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS})
"""With these a client is told when to ask again."""


class Problem(Exception):  # noqa: N818 - the standard's own word
    """An answer that is an error.

    Args:
        status: of HTTP.
        detail: what is wrong and what to do, as a sentence.
        headers: that the status calls for.
    """

    def __init__(
        self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    def answer(self) -> JSONResponse:
        """Return it as it is sent."""
        return _answer(self.status, self.detail, self.headers)


def add_handlers(app: FastAPI) -> None:
    """Answer every error in the same form."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, error: Problem) -> JSONResponse:
        return error.answer()

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        # Of a list, the parameter and not the place in it.
        name = ".".join(part for part in first["loc"][1:] if isinstance(part, str))
        reason = str(first["msg"]).removeprefix("Value error, ")
        return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: {reason}")

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        answer = _answer(HTTPStatus(error.status_code), str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> JSONResponse:
        log.error("request_failed", path=request.url.path, error=repr(error))
        detail = "This is a fault in Tapeline; its log says more."
        return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, detail)


def _answer(status: HTTPStatus, detail: str, more: Mapping[str, str] | None = None) -> JSONResponse:
    body = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    headers = {"Cache-Control": "no-store"}
    if status in _LATER:
        headers["Retry-After"] = "1"
    return JSONResponse(body, status, {**headers, **(more or {})}, MEDIA_TYPE)
