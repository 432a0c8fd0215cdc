"""Python, Java, memory, disk and the home's folder."""

from __future__ import annotations

import platform
import shutil
import sys
from typing import Final

from tapeline.local.home import Home
from tapeline.local.java import REQUIRED_MAJOR, find_java
from tapeline.local.preflight import require_memory, require_room
from tapeline.local.state import read_state
from tapeline.model.errors import PreflightError, UsageError
from tapeline.program.settings import Settings
from tapeline.status.doctor.finding import Finding
from tapeline.status.health import LEAST_FREE_MB

PYTHONS: Final = ((3, 11), (3, 13))
"""The oldest and the newest version that the tests run on."""
_MB: Final = 2**20


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """Check the Python that runs this."""
    oldest, newest = PYTHONS
    span = f"{_text(oldest)} to {_text(newest)}"
    if oldest <= version <= newest:
        return Finding.ok("Python", f"{platform.python_version()}, one of {span}.")
    return Finding.fail(
        "Python", f"{_text(version)} is not one of {span}: install Tapeline with one of these."
    )


def check_java() -> Finding:
    """Look for the Java that Kafka, Cassandra and Spark need."""
    try:
        return Finding.ok("Java", f"{REQUIRED_MAJOR}, at {find_java()}.")
    except PreflightError as error:
        return Finding.fail("Java", error)


def check_home(settings: Settings) -> Finding:
    """Check that the home may be written."""
    home = Home(settings.home)
    try:
        home.require_writable()
    except UsageError as error:
        return Finding.fail("home", error)
    where = "" if home.disk == home.root else " is made by the first command that needs it"
    return Finding.ok("home", f"{home.root}{where or ' can be written'}.")


def check_memory(settings: Settings) -> Finding:
    """Check that there is memory enough to start what is not started yet."""
    if are_services_elsewhere(settings):
        return Finding.not_checked("memory", "Kafka and Cassandra are set: none is started here.")
    if read_state(Home(settings.home)).services:
        return Finding.not_checked("memory", "The local services run, and have theirs.")
    needed_mb = settings.profile.sizes.needed_memory_mb
    try:
        free_mb = require_memory(needed_mb)
    except PreflightError as error:
        return Finding.fail("memory", error)
    profile = settings.profile.value
    text = f"{free_mb:,} MB are free; profile {profile} takes {needed_mb:,}."
    return Finding.ok("memory", text)


def check_disk(settings: Settings) -> Finding:
    """Check that there is room where the home is: for a start, or to go on."""
    home = Home(settings.home)
    try:
        return Finding.ok("disk", f"{require_room(home):,} MB are free at {home.disk}.")
    except PreflightError as error:
        is_needed = not (read_state(home).services or are_services_elsewhere(settings))
        free_mb = shutil.disk_usage(home.disk).free // _MB
        if is_needed or free_mb < LEAST_FREE_MB:
            return Finding.fail("disk", error)
        return Finding.warn("disk", str(error))


def are_services_elsewhere(settings: Settings) -> bool:
    """Return whether both services are set, so that no local one is used."""
    return bool(settings.kafka.bootstrap_servers and settings.cassandra.host)


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
