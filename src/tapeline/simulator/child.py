"""A simulated feed for another command, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.local.supervisor import Child, child_process
from tapeline.program.settings import API_KEY_VARIABLE
from tapeline.simulator.main import DEFAULT_PORT, DEFAULT_TOKEN, TOKEN_VARIABLE

DEMO: Final = "demo"
"""Topic and keyspace of simulated trades."""


@dataclass(frozen=True, slots=True)
class SimulatedFeed:
    """A running simulator: its address, its token and its process."""

    url: str
    token: str
    child: Child

    @property
    def environment(self) -> dict[str, str]:
        """What leads a `tapeline produce` to it."""
        return {"TAPELINE_FINNHUB__URL": self.url, API_KEY_VARIABLE: self.token}


@contextmanager
def simulated_feed(home: Path, arguments: Sequence[str] = ()) -> Iterator[SimulatedFeed]:
    """Run `tapeline simulate` for a while; a client's reconnect loop waits for it."""
    port = free_port(DEFAULT_PORT)
    simulate = ["simulate", "--port", str(port), *arguments]
    with child_process(simulate, home, {TOKEN_VARIABLE: DEFAULT_TOKEN}) as child:
        yield SimulatedFeed(f"ws://{LOOPBACK}:{port}", DEFAULT_TOKEN, child)
