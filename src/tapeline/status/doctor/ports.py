"""The ports of the local services, the metrics and the API: free, ours, or somebody else's."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from tapeline.local import cassandra, kafka
from tapeline.local.home import Home
from tapeline.local.ports import why_taken
from tapeline.local.service import LOOPBACK
from tapeline.local.state import read_state
from tapeline.program.settings import API_PORT, Settings
from tapeline.status.doctor.finding import Finding

_PROGRAM: Final = "tapeline"


class Holder(NamedTuple):
    """Who listens on a port; without a process where the system does not tell."""

    process: psutil.Process | None

    @property
    def is_ours(self) -> bool:
        """Whether it is a command of Tapeline."""
        with suppress(psutil.Error):
            words = self.process.cmdline() if self.process else []
            # `python -m tapeline api`, or the installed program.
            return any(Path(word).name == _PROGRAM for word in words[:4])
        return False

    def __str__(self) -> str:
        """Name it."""
        with suppress(psutil.Error):
            if self.process is not None:
                return f"{self.process.name()} (process {self.process.pid})"
        return "another program"


def check_ports(settings: Settings) -> Iterator[Finding]:
    """Look at each port; one that is 0 is not used."""
    yield from _of_services(settings)
    host = settings.metrics.host
    for name, port in (
        ("port of producer's metrics", settings.metrics.producer_port),
        ("port of stream's metrics", settings.metrics.stream_port),
    ):
        advice = "a free one is used instead, which the log names and Prometheus does not know"
        yield _of_command(name, host, port, Finding.warn, advice)
    advice = "start `tapeline api` with another --port"
    yield _of_command("port of the API", LOOPBACK, API_PORT, Finding.fail, advice)


def _of_services(settings: Settings) -> Iterator[Finding]:
    running = {s.name: s for s in read_state(Home(settings.home)).services}
    for name, port, is_set in (
        (kafka.NAME, kafka.PREFERRED_PORT, bool(settings.kafka.bootstrap_servers)),
        (cassandra.NAME, cassandra.PREFERRED_PORT, bool(settings.cassandra.host)),
    ):
        check = f"port of local {name.capitalize()}"
        if service := running.get(name):
            text = f"{service.port} is held by our own (process {service.pid})."
            yield Finding.ok(check, text)
        elif is_set:
            text = f"{name.capitalize()} is set: none is started here."
            yield Finding.not_checked(check, text)
        elif why_taken(LOOPBACK, port) is None:
            yield Finding.ok(check, f"{port} is free.")
        else:
            text = f"{port} is held by {holder_of(port)}: one above it will be taken instead."
            yield Finding.warn(check, text)


def _of_command(
    check: str, host: str, port: int, trouble: Callable[[str, str], Finding], advice: str
) -> Finding:
    if port == 0:
        return Finding.not_checked(check, "It is set to 0: nothing is served.")
    refusal = why_taken(host, port)
    if refusal is None:
        return Finding.ok(check, f"{port} is free.")
    if getattr(refusal, "errno", None) != errno.EADDRINUSE:
        reason = getattr(refusal, "strerror", None) or refusal
        text = f"{host}:{port} cannot be listened on ({reason}): set another address or port."
        return Finding.fail(check, text)
    holder = holder_of(port)
    if holder.is_ours:
        return Finding.ok(check, f"{port} is held by our own: {holder}.")
    return trouble(check, f"{port} is held by {holder}: {advice}.")


def holder_of(port: int) -> Holder:
    """Return who listens on a port."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or connection.pid is None:
                continue
            if connection.laddr and connection.laddr.port == port:
                return Holder(psutil.Process(connection.pid))
    return Holder(None)
