"""What processes cost: CPU seconds and memory of whole process trees, by role."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

import psutil

SAMPLE_S: Final = 0.5
_MB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process tree: CPU seconds since its start, resident and proportional MB."""

    cpu_s: float
    rss_mb: float
    pss_mb: float


def usage_of(pid: int, *, shares: bool = False) -> Usage:
    """Return the usage of a process and all its descendants; zeros when it is gone.

    Args:
        pid: of the tree's root.
        shares: also divide pages that processes share among them (slow).
    """
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return Usage(0.0, 0.0, 0.0)
    cpu_s = rss = pss = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
            # Children that have ended are in their parent's account.
            cpu_s += times.user + times.system + times.children_user + times.children_system
            rss += process.memory_info().rss
            if shares:
                pss += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return Usage(cpu_s, rss / _MB, pss / _MB)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: seconds since the sampler began, progress, and usage by role."""

    at_s: float
    progress: Mapping[str, float]
    usage: Mapping[str, Usage]

    def to_json(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        return asdict(self)


@dataclass(slots=True)
class Sampler:
    """Looks at processes and progress again and again, in a thread of its own.

    Args:
        roles: root process by role.
        progress: returns figures that grow, by name.
        every_s: time between looks.
    """

    roles: Mapping[str, int]
    progress: Callable[[], Mapping[str, float]] = dict
    every_s: float = SAMPLE_S
    samples: list[Sample] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _began_s: float = 0.0

    def __enter__(self) -> Self:
        """Begin."""
        self._began_s = time.monotonic()
        self.look()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop after a last look."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.look()

    def look(self, *, shares: bool = False) -> Sample:
        """Take a sample now. A role whose process has ended keeps what it cost."""
        with self._looking:
            usage = {}
            for role, pid in self.roles.items():
                now = usage_of(pid, shares=shares)
                before = self.samples[-1].usage[role] if self.samples else now
                usage[role] = replace(now, cpu_s=max(now.cpu_s, before.cpu_s))
            at_s = time.monotonic() - self._began_s
            sample = Sample(at_s, dict(self.progress()), usage)
            self.samples.append(sample)
            return sample

    def _run(self) -> None:
        while not self._stop.wait(self.every_s):
            self.look()


@dataclass(frozen=True, slots=True)
class Stretch:
    """What happened between two samples."""

    first: Sample
    last: Sample

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.last.at_s - self.first.at_s

    def gain(self, name: str) -> float:
        """Return how far a figure of progress got."""
        return self.last.progress[name] - self.first.progress[name]

    def rate(self, name: str) -> float:
        """Return progress a second."""
        return self.gain(name) / self.seconds if self.seconds > 0 else 0.0

    def cpu_s(self, role: str) -> float:
        """Return the CPU seconds of a role."""
        return self.last.usage[role].cpu_s - self.first.usage[role].cpu_s

    def cores(self, role: str) -> float:
        """Return the cores that a role kept busy."""
        return self.cpu_s(role) / self.seconds if self.seconds > 0 else 0.0


def stretch(samples: list[Sample], name: str, start: float, end: float) -> Stretch:
    """Return the stretch in which a figure went from `start` to `end`, at whole samples.

    Raises:
        ValueError: it never got there.
    """
    first = next((s for s in samples if s.progress.get(name, 0.0) >= start), None)
    last = next((s for s in samples if s.progress.get(name, 0.0) >= end), None)
    if first is None or last is None:
        reached = max((s.progress.get(name, 0.0) for s in samples), default=0.0)
        message = f"{name} reached {reached:,.0f} only, not {end:,.0f}"
        raise ValueError(message)
    return Stretch(first, last)
