"""A simulated feed for the producer, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pydantic import SecretStr

from tapeline.local.service import LOOPBACK, free_port
from tapeline.settings import Settings
from tapeline.simulator.main import DEFAULT_PORT, DEFAULT_TOKEN, TOKEN_VARIABLE
from tapeline.supervisor import child_process

DEMO: Final = "demo"
"""Topic and keyspace of simulated trades."""


@contextmanager
def simulated_feed(
    settings: Settings, arguments: Sequence[str] = ()
) -> Iterator[tuple[Settings, SecretStr]]:
    """Run `tapeline simulate` for a while.

    Yields settings that lead to it, and its token. The client's reconnect loop waits for it.
    """
    port = free_port(DEFAULT_PORT)
    environment = {TOKEN_VARIABLE: DEFAULT_TOKEN}
    with child_process(["simulate", "--port", str(port), *arguments], settings.home, environment):
        finnhub = settings.finnhub.model_copy(update={"url": f"ws://{LOOPBACK}:{port}"})
        yield settings.model_copy(update={"finnhub": finnhub}), SecretStr(DEFAULT_TOKEN)
