"""How the feed's address is reached: through the proxy that the environment names, if it does."""

from __future__ import annotations

import ssl
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.exceptions import InvalidProxy, InvalidProxyStatus, InvalidStatus
from websockets.proxy import get_proxy, parse_proxy
from websockets.uri import parse_uri

from tapeline.feeds.feed import Feed
from tapeline.model.errors import UsageError
from tapeline.program.loopback import is_loopback
from tapeline.program.settings import Settings
from tapeline.program.tls import TlsFiles

_ELSE: Final = "correct HTTPS_PROXY, or name the feed's host in NO_PROXY."


def proxy_of(url: str) -> str | None:
    """Return the address of the proxy through which a feed is reached; None for none.

    HTTPS_PROXY and its like name it, and NO_PROXY what needs none, as for curl; a feed on this
    machine never does.

    Raises:
        UsageError: the proxy is none, or of a kind that needs a further package.
        websockets.exceptions.InvalidURI: the feed's address is none.
    """
    address = parse_uri(url)
    proxy = None if is_loopback(address.host) else get_proxy(address)
    if proxy is None:
        return None
    try:
        scheme = parse_proxy(proxy).scheme
    except (InvalidProxy, ValueError):
        # Its text may hold a password.
        message = f"The environment's proxy is not a valid address: {_ELSE}"
        raise UsageError(message) from None
    if scheme.startswith("socks") and find_spec("python_socks") is None:
        message = f"A SOCKS proxy needs the package python-socks: install it, or {_ELSE}"
        raise UsageError(message)
    return proxy


def tls_of(url: str) -> dict[str, Any]:
    """Return how `websockets` connects to an address: whom we trust, if it is `wss://`."""
    return {"ssl": TlsFiles().context()} if urlsplit(url).scheme == "wss" else {}


def url_of(feed: Feed, settings: Settings) -> str:
    """Return a feed's address."""
    if feed.venue:
        url: str = getattr(settings.feeds, feed.name)
        return url
    return settings.finnhub.url


def history_url_of(feed: Feed, settings: Settings) -> str | None:
    """Return the address of a feed's history; None where it has none."""
    if feed.history is None:
        return None
    url: str = getattr(settings.feeds, f"{feed.name}_history")
    return url or None


def url_setting(feed: Feed) -> str:
    """Return the name of the setting that holds a feed's address."""
    return f"TAPELINE_FEEDS__{feed.name.upper()}" if feed.venue else "TAPELINE_FINNHUB__URL"


def explain(error: Exception, url: str) -> str:
    """Say why a feed was not reached, without any secret."""
    if isinstance(error, InvalidStatus):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, InvalidProxyStatus):
        return f"the proxy answers HTTP {error.response.status_code}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {parse_uri(url).host} does not verify "
            f"({error.verify_message}); SSL_CERT_FILE can name an authority of your own"
        )
    if isinstance(error, ssl.SSLError):
        return f"no TLS with {parse_uri(url).host} ({error.reason or error})"
    return type(error).__name__
