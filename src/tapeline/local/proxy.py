"""Let Java, which reads no variables, use the proxy that the environment names, as pip does."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies


def proxy_options(proxies: Mapping[str, str] | None = None) -> list[str]:
    """Return the options of `java` that lead it through the proxies.

    Args:
        proxies: as `urllib.request.getproxies` returns them, which it is by default.
    """
    found = getproxies() if proxies is None else proxies
    options = []
    for scheme in ("http", "https"):
        address = found.get(scheme) or found.get("all", "")
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError:  # no address: Java tries without, and says what does not work
            continue
        if not host or not parts.scheme.startswith("http"):
            continue
        usual = 443 if parts.scheme == "https" else 80
        options += [f"-D{scheme}.proxyHost={host}", f"-D{scheme}.proxyPort={port or usual}"]
    if options and (without := found.get("no")):
        names = [name.strip() for name in without.split(",") if name.strip()]
        hosts = "|".join(f"*{name}" if name.startswith(".") else name for name in names)
        options.append(f"-Dhttp.nonProxyHosts={hosts}")
    return options
