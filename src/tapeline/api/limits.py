"""How much one client may ask: a token bucket each, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

_MOST_CLIENTS: Final = 10_000
"""Above that the buckets used longest ago are forgotten, which fills them."""
_FORGET_EVERY_S: Final = 60.0
_ENOUGH_S: Final = 1e-9
"""Far less than the time of a request, and more than sums of floats are off."""


class RequestLimits:
    """How many requests each client may still make.

    Of a bucket we keep when it will be full again, which says how many tokens it lacks; a full one
    is not kept at all.

    Args:
        per_s: requests a second that go on for long; 0 sets no limit.
        burst: tokens of a full bucket.
        clock: seconds that never go back.
    """

    def __init__(
        self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._token_s = 1 / per_s if per_s else 0.0
        self._whole_s = burst * self._token_s
        self._clock = clock
        self._full_at: dict[str, float] = {}
        self._forgot_at = clock()

    def __len__(self) -> int:
        """Count the clients that are remembered."""
        return len(self._full_at)

    def take(self, client: str) -> float:
        """Take a token and return 0, or return in how many seconds there is one.

        Args:
            client: "" for one without limits.
        """
        if not client or not self._token_s:
            return 0.0
        now = self._clock()
        full_at = max(self._full_at.get(client, now), now) + self._token_s
        wait_s = full_at - now - self._whole_s
        if wait_s > _ENOUGH_S:
            return wait_s
        self._full_at.pop(client, None)
        self._full_at[client] = full_at  # at the end: what was used longest ago comes first
        if now - self._forgot_at > _FORGET_EVERY_S or len(self._full_at) > _MOST_CLIENTS:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        self._forgot_at = now
        kept = [(client, at) for client, at in self._full_at.items() if at > now]
        # With some room, or every further client would cause the same again.
        self._full_at = dict(kept[-_MOST_CLIENTS * 9 // 10 :])


def client_at(host: str | None) -> str:
    """Return whom limits count at an address: "" for this machine, which has none.

    An IPv6 address counts as its network of 64 bits, of which one host may use all.
    """
    if host is None:
        return ""
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return "unknown"  # a proxy has sent something else; it may be of any length
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return ""
    if isinstance(address, IPv6Address):
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)
