"""A simulated feed for another command, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK, accepts_connections
from tapeline.local.supervisor import Child, child_process
from tapeline.program.settings import API_KEY_VARIABLE
from tapeline.simulator.main import DEFAULT_PORT, DEFAULT_TOKEN, TOKEN_VARIABLE

DEMO: Final = "demo"
"""Topic and keyspace of simulated trades."""
_STARTS_WITHIN_S: Final = 30.0
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class SimulatedFeed:
    """A running simulator: its port of loopback, its token and its process."""

    port: int
    token: str
    child: Child

    @property
    def url(self) -> str:
        """Its address."""
        return f"ws://{LOOPBACK}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What leads a `tapeline produce` to it."""
        return {"TAPELINE_FINNHUB__URL": self.url, API_KEY_VARIABLE: self.token}

    def wait(self) -> None:
        """Wait a while until it listens: a client that is there before notes a gap."""
        deadline_s = time.monotonic() + _STARTS_WITHIN_S
        while self.child.exit_code is None and time.monotonic() < deadline_s:
            if accepts_connections(self.port):
                return
            time.sleep(_POLL_S)


@contextmanager
def simulated_feed(home: Path, arguments: Sequence[str] = ()) -> Iterator[SimulatedFeed]:
    """Run `tapeline simulate` for a while; a client's reconnect loop waits for it."""
    port = free_port(DEFAULT_PORT)
    simulate = ["simulate", "--port", str(port), *arguments]
    with child_process(simulate, home, {TOKEN_VARIABLE: DEFAULT_TOKEN}) as child:
        yield SimulatedFeed(port, DEFAULT_TOKEN, child)
