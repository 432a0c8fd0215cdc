"""What runs of the local stack, as its state file says; light, for every command asks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tapeline.local.home import Home
from tapeline.local.service import RunningService
from tapeline.model.errors import UsageError

KAFKA: Final = "kafka"
CASSANDRA: Final = "cassandra"


@dataclass(frozen=True, slots=True)
class StackState:
    """What the state file holds."""

    services: tuple[RunningService, ...]
    kept: bool


def read_state(home: Home) -> StackState:
    """Return the services in the state file that still live."""
    state = _read_file(home)
    return StackState(tuple(s for s in state.services if s.process() is not None), state.kept)


def all_noted(home: Home) -> tuple[RunningService, ...]:
    """Return the services in the state file, those that have ended too."""
    return _read_file(home).services


def ports_of(home: Home) -> dict[str, int]:
    """Return the ports of the local stack's services, one that has died included.

    Such a one comes back where it was, and what listens elsewhere is not it. Empty when none lives.
    """
    noted = all_noted(home)
    return {s.name: s.port for s in noted} if any(s.process() for s in noted) else {}


def write_state(home: Home, services: Iterable[RunningService], *, kept: bool) -> StackState:
    """Note what runs."""
    state = StackState(tuple(services), kept=kept)
    text = json.dumps({"kept": kept, "services": [s.to_json() for s in state.services]})
    partial = home.state_file.with_suffix(".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(home.state_file)
    return state


def _read_file(home: Home) -> StackState:
    file = home.state_file
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return StackState(tuple(map(RunningService.from_json, data["services"])), data["kept"])
    except FileNotFoundError:
        return StackState((), kept=False)
    except OSError as error:
        message = f"{file} cannot be read ({error.strerror}): set TAPELINE_HOME to your own folder."
        raise UsageError(message) from error
    except (ValueError, LookupError, TypeError) as error:
        message = f"{file} is damaged: end the Kafka and Cassandra that still run, and delete it."
        raise UsageError(message) from error
