"""What runs on this machine: no proxy of the environment leads there."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.request import BaseHandler, OpenerDirector, ProxyHandler, build_opener


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address is of this machine alone."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def opener_for(host: str, *handlers: BaseHandler) -> OpenerDirector:
    """Return what asks a host by HTTP, through the environment's proxy unless it is this machine.

    Args:
        host: its name or address.
        handlers: in place of the usual ones.
    """
    proxies = [ProxyHandler({})] if is_loopback(host) else []
    return build_opener(*handlers, *proxies)
