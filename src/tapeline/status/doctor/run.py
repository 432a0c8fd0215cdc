"""All checks, in the order in which they are best mended."""

from __future__ import annotations

from collections.abc import Iterator

from tapeline.model.errors import UsageError
from tapeline.program.settings import Settings
from tapeline.status.doctor import machine
from tapeline.status.doctor.files import check_checkpoints, check_jars_there, check_spools
from tapeline.status.doctor.finding import Finding
from tapeline.status.doctor.ports import check_ports
from tapeline.status.doctor.servers import check_cassandra, check_kafka
from tapeline.status.doctor.settings_check import check_key, check_settings


def check_everything(settings: Settings) -> Iterator[Finding]:
    """Yield what each check finds; starts, fetches and changes nothing."""
    yield from check_programs()
    yield from check_settings()
    yield machine.check_home(settings)
    try:
        yield from _below(settings)
    except UsageError as error:  # the file that says what runs is damaged, or not ours
        yield Finding.fail("local services", error)


def check_programs() -> Iterator[Finding]:
    """Yield what can be checked without any settings."""
    yield machine.check_python()
    yield machine.check_java()


def _below(settings: Settings) -> Iterator[Finding]:
    yield machine.check_memory(settings)
    yield machine.check_disk(settings)
    yield from check_ports(settings)
    yield from check_key(settings)
    yield from check_jars_there(settings)
    yield check_checkpoints(settings)
    yield check_spools(settings)
    yield from check_kafka(settings)
    yield from check_cassandra(settings)
