"""The settings of `tapeline watch`: secrets, and what it keeps."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, Field, HttpUrl, SecretStr

from tapeline.program import setting_types as valid
from tapeline.program.service_settings import FROZEN

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what each secret begins with
_SECRET_BYTES: Final = range(24, 65)
_MAKE_ONE: Final = 'echo "whsec_$(openssl rand -base64 32)"'


def secret_bytes(text: str) -> bytes:
    """Return the bytes of a webhook's secret, which is `whsec_` and the base64 of 24 to 64 bytes.

    Raises:
        ValueError: it is none.
    """
    try:
        found = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        found = b""
    if not text.startswith(SECRET_PREFIX) or len(found) not in _SECRET_BYTES:
        message = (
            f"this is no secret of a webhook, {SECRET_PREFIX} and the base64 of 24 to 64 bytes: "
            f"make one with {_MAKE_ONE}."
        )
        raise ValueError(message)
    return found


def _secret(secret: SecretStr) -> SecretStr:
    secret_bytes(secret.get_secret_value())
    return secret


def webhook_url(text: str) -> str:
    """Return the address of a webhook as it was given.

    Raises:
        ValueError: it is none, or holds a password. The address is not repeated: it may hold a
            token.
    """
    try:
        url = HttpUrl(text)
        is_plain = text.isascii() and text.isprintable() and " " not in text
        is_plain = is_plain and valid.can_be_looked_up(url.host or "")
    except ValueError:
        is_plain = False
    if not is_plain:
        message = "this is not a valid address: give one such as https://alerts.example/tapeline."
        raise ValueError(message)
    if url.username is not None or url.password is not None or url.fragment is not None:
        message = "give the address without a password and without a part behind #."
        raise ValueError(message)
    return text


def _webhook(url: SecretStr) -> SecretStr:
    webhook_url(url.get_secret_value())
    return url


class WatchSettings(BaseModel):
    """What `tapeline watch` tells, and to whom."""

    model_config = FROZEN

    webhook: Annotated[SecretStr, AfterValidator(_webhook)] | None = None
    """Address that events are posted to, where it holds a token; else `--webhook` will do. It is
    shown nowhere."""
    secret: Annotated[SecretStr, AfterValidator(_secret)] | None = None
    """Secret by which events are signed, whsec_ and the base64 of 24 to 64 bytes (docs/watch.md).
    It is shown nowhere."""
    api_key: valid.Key | None = None
    """Key of the API that is watched, if it asks for one. It is shown nowhere."""
    timeout_s: valid.Seconds = 15.0
    """Seconds that the webhook may take to answer."""
    max_events: int = Field(default=100_000, ge=1, le=10_000_000)
    """Events that may wait to be delivered; with more, nothing is read until some are."""
