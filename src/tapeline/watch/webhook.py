"""A webhook: each event is signed and posted, in the manner of Standard Webhooks.

The signature is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`; the secret is the
base64 behind `whsec_` (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request

from tapeline.program.loopback import opener_for
from tapeline.program.watch_settings import secret_bytes

_LONGEST_RETRY_AFTER_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Why a receiver has not taken an event, and in how many seconds it wants to be asked again.

    Without a reason it has taken it.
    """

    reason: str = ""
    retry_after_s: float = 0.0

    @property
    def is_taken(self) -> bool:
        """Whether the event is delivered."""
        return not self.reason


class _NoRedirects(HTTPRedirectHandler):
    """A POST that is sent elsewhere would become a GET."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none: the answer is an error like others."""


def signature(secret: bytes, event_id: str, timestamp_s: int, body: bytes) -> str:
    """Return what the header `webhook-signature` says."""
    signed = b"%s.%d.%s" % (event_id.encode(), timestamp_s, body)
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class Webhook:
    """Where events are posted to.

    Args:
        url: of the receiver; http or https. It may hold a token, so only its host is shown.
        secret: `whsec_` and base64.
        timeout_s: how long each step of a request may take.
        now: returns Unix time.
    """

    def __init__(
        self, url: str, secret: str, timeout_s: float, now: Callable[[], float] = time.time
    ) -> None:
        self._url = url
        self._secret = secret_bytes(secret)
        self._timeout_s = timeout_s
        self._now = now
        host = urlsplit(url).hostname or ""
        self.name = f"{urlsplit(url).scheme}://{host}"
        """The receiver, as it may be shown."""
        self._opener = opener_for(host, _NoRedirects())

    def send(self, event_id: str, body: bytes) -> Answer:
        """Post an event once; any answer of 200 to 299 takes it."""
        timestamp_s = int(self._now())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "tapeline-watch",
            "webhook-id": event_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": signature(self._secret, event_id, timestamp_s, body),
        }
        request = Request(self._url, body, headers, method="POST")  # noqa: S310 - checked
        try:
            with self._opener.open(request, timeout=self._timeout_s):
                return Answer()
        except HTTPError as error:
            with error:
                retry_after = error.headers.get("Retry-After", "")
                reason = f"status {error.code} {_phrase(error.code)}".rstrip()
                return Answer(reason, _seconds(retry_after))
        except URLError as error:
            return Answer(_said(error.reason))
        except (OSError, HTTPException, ValueError) as error:
            return Answer(_said(error))


def _seconds(text: str) -> float:
    """Return the seconds of a header Retry-After, 0 where it says none."""
    return min(float(text), _LONGEST_RETRY_AFTER_S) if text.isdecimal() else 0.0


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _said(error: object) -> str:
    """Say what went wrong without the address, which may hold a token."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeError):  # of the codec IDNA; some Pythons raise one below it
        return "not a valid host name"
    return type(error).__name__
