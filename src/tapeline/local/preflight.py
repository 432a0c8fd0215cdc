"""Say what will be fetched and needed, and stop before a start that cannot succeed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console

from tapeline.local.home import Home
from tapeline.local.jars import ALL_JARS, missing_jars
from tapeline.model.errors import LocalStackError, PreflightError

NEEDED_DISK_MB: Final = 2000
"""Jars, data and checkpoints of a first hour."""
_FULL_BELOW_MB: Final = 50
"""Less than a service needs to start on what it holds already."""
_MB: Final = 1024 * 1024


def check_machine(home: Home, needed_memory_mb: int, *, running: bool, console: Console) -> None:
    """Print what a first run fetches; check memory and disk.

    Args:
        home: where jars and data go.
        needed_memory_mb: what the profile takes.
        running: part of the stack runs already and has its memory.
        console: where to print.

    Raises:
        PreflightError: memory or disk is short.
    """
    missing = missing_jars(home.jars, ALL_JARS)
    free_disk_mb, free_memory_mb = _free_disk_mb(home), _free_memory_mb()
    if missing:
        parts = ", ".join(f"{s.name} ({s.about_mb} MB)" for s in missing)
        console.print(f"First run: fetching {parts} into {home.jars}, once.")
        console.print(
            f"Needs about {needed_memory_mb / 1024:.1f} GB of memory "
            f"({free_memory_mb / 1024:.1f} free) and {NEEDED_DISK_MB / 1024:.1f} GB of disk "
            f"({free_disk_mb / 1024:.1f} free)."
        )
    require_room(home)
    if not running:
        require_memory(needed_memory_mb)


def require_room(home: Home) -> int:
    """Return how many MB are free where the home is, or will be.

    Raises:
        PreflightError: that is too little for a start.
    """
    free_disk_mb = _free_disk_mb(home)
    if free_disk_mb < NEEDED_DISK_MB:
        message = (
            f"Only {free_disk_mb} MB of disk are free at {home.root}, "
            f"{NEEDED_DISK_MB} are needed: free some, or set TAPELINE_HOME to a larger disk."
        )
        raise PreflightError(message)
    return free_disk_mb


def require_memory(needed_memory_mb: int) -> int:
    """Return how many MB of memory are free.

    Raises:
        PreflightError: that is less than is needed.
    """
    free_memory_mb = _free_memory_mb()
    if free_memory_mb < needed_memory_mb:
        message = (
            f"Only {free_memory_mb} MB of memory are free, {needed_memory_mb} are needed: "
            "close other programs, or point Tapeline at a Kafka and a Cassandra elsewhere with "
            "TAPELINE_KAFKA__BOOTSTRAP_SERVERS and TAPELINE_CASSANDRA__HOST."
        )
        raise PreflightError(message)
    return free_memory_mb


def _free_disk_mb(home: Home) -> int:
    return shutil.disk_usage(home.disk).free // _MB


def _free_memory_mb() -> int:
    return int(psutil.virtual_memory().available) // _MB


def require_disk(folder: Path, failure: LocalStackError) -> None:
    """Say so when the disk of a service that cannot start is full; Java says something else.

    Args:
        folder: of the service's data.
        failure: what is known so far.

    Raises:
        LocalStackError: it is full.
    """
    if not folder.exists() or shutil.disk_usage(folder).free >= _FULL_BELOW_MB * _MB:
        return
    message = f"The disk of {folder} is full: free some and start again. {failure}"
    raise LocalStackError(message) from failure
