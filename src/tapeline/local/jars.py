"""Fetch jars from their Maven coordinates with the Ivy that PySpark ships.

Ivy's own default resolvers are used. Each set is fetched once into the home and used from
there, so that later runs ask nothing of the network.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tapeline.local.jar_checksums import check_jars, known_checksums
from tapeline.local.java import bundled_java, java_environment
from tapeline.local.lock import held
from tapeline.local.proxy import proxy_options
from tapeline.local.truststore import write_trust_store
from tapeline.model.errors import LocalStackError


@dataclass(frozen=True, slots=True)
class JarSet:
    """Maven coordinates (group:artifact:version) with about what they bring."""

    name: str
    coordinates: tuple[str, ...]
    about_jars: int
    about_mb: int


KAFKA_JARS: Final = JarSet(
    "kafka-4.4.0",
    ("org.apache.kafka:kafka_2.13:4.4.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"),
    about_jars=45,
    about_mb=43,
)
CASSANDRA_JARS: Final = JarSet(
    "cassandra-5.0.9", ("org.apache.cassandra:cassandra-all:5.0.9",), about_jars=99, about_mb=61
)
SPARK_JARS: Final = JarSet(
    "spark-3.5.7",
    (
        "org.apache.spark:spark-sql-kafka-0-10_2.12:3.5.7",
        "org.apache.spark:spark-avro_2.12:3.5.7",
        "com.datastax.spark:spark-cassandra-connector_2.12:3.5.1",
    ),
    about_jars=30,
    about_mb=80,
)
ALL_JARS: Final = (KAFKA_JARS, CASSANDRA_JARS, SPARK_JARS)
_POLL_S: Final = 0.2
_OTHER_FETCH_S: Final = 1800.0
_LOG_TAIL_LINES: Final = 15


def jar_folder(jars: Path, jar_set: JarSet) -> Path:
    """Return the folder that holds a set once it is fetched."""
    return jars / jar_set.name


def missing_jars(jars: Path, wanted: Iterable[JarSet]) -> list[JarSet]:
    """Return the sets that are still to be fetched."""
    return [s for s in wanted if not jar_folder(jars, s).is_dir()]


def fetch_jars(
    jars: Path,
    wanted: Iterable[JarSet],
    java_home: Path,
    console: Console,
    on_arrival: Callable[[JarSet], None] = lambda _set: None,
    checksums: Mapping[str, str] | None = None,
) -> None:
    """Fetch the missing sets side by side, with a progress bar each.

    Calls `on_arrival` after each set that this call has fetched.

    A set appears under its own name only when it is whole and each jar has the SHA-256 of
    `checksums` (by default those of the package), so an interrupted fetch is simply repeated,
    and what is there is not checked again. Another process that fetches is waited for.

    Raises:
        LocalStackError: Ivy failed, and the message ends with the end of its log; or a jar is
            another one.
        UsageError: another process does not come to an end.
    """
    if not missing_jars(jars, wanted):
        return
    message = f"Another command fetches into {jars}: try again when it has ended."
    with held(jars / "fetching.lock", message, _OTHER_FETCH_S):
        known = known_checksums() if checksums is None else checksums
        fetches = [_Fetch(jars, s, java_home, known) for s in missing_jars(jars, wanted)]
        _await(fetches, console, on_arrival)


def _await(
    fetches: Sequence[_Fetch], console: Console, on_arrival: Callable[[JarSet], None]
) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} jars", markup=False),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console) as progress:
            tasks = [progress.add_task(f.jar_set.name, total=f.jar_set.about_jars) for f in fetches]
            running = dict(zip(fetches, tasks, strict=True))
            while running:
                time.sleep(_POLL_S)
                for fetch, task in list(running.items()):
                    has_ended = fetch.process.poll() is not None
                    count = fetch.downloaded()
                    total = max(count, fetch.jar_set.about_jars)
                    progress.update(task, completed=count, total=total)
                    if has_ended:
                        fetch.finish()
                        del running[fetch]
                        on_arrival(fetch.jar_set)
    finally:
        for fetch in fetches:
            fetch.cancel()


class _Fetch:
    """One Ivy process that fetches one set into a folder of its own."""

    def __init__(
        self, jars: Path, jar_set: JarSet, java_home: Path, checksums: Mapping[str, str]
    ) -> None:
        self.jar_set = jar_set
        self._checksums = checksums
        self._target = jar_folder(jars, jar_set)
        self._work = jars / f".{jar_set.name}.part"
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        descriptor = self._work / "ivy.xml"
        descriptor.write_text(_ivy_descriptor(jar_set), encoding="utf-8")
        self._log = self._work / "ivy.log"
        command = [
            str(java_home / "bin" / "java"),
            *_trust_options(java_home, self._work),
            *proxy_options(),
            "-jar",
            str(_ivy_jar()),
            "-ivy",
            str(descriptor),
            "-cache",
            str(self._work / "cache"),
            "-confs",
            "default",
            "-retrieve",
            str(self._work / "lib" / "[organisation]_[artifact]-[revision](-[classifier]).[ext]"),
        ]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=java_environment(java_home)
            )

    def downloaded(self) -> int:
        """Count the jars that have arrived so far."""
        return sum(1 for _ in self._work.glob("cache/**/*.jar"))

    def finish(self) -> None:
        """Check the jars and move them to their place, or raise LocalStackError."""
        library = self._work / "lib"
        if self.process.returncode != 0 or not library.is_dir():
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
            message = (
                f"Fetching {self.jar_set.name} failed. Check the network and try again; "
                f"what arrived is kept out of use. The end of Ivy's log:\n{tail}"
            )
            raise LocalStackError(message)
        try:
            check_jars(library, self._checksums)
        except LocalStackError:
            shutil.rmtree(self._work, ignore_errors=True)
            raise
        library.rename(self._target)
        shutil.rmtree(self._work, ignore_errors=True)

    def cancel(self) -> None:
        """End the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _trust_options(java_home: Path, work: Path) -> list[str]:
    """Return what makes the bundled Java trust the system's authorities, as pip does."""
    store = work / "authorities.jks"
    if java_home != bundled_java() or not write_trust_store(store):
        return []
    return [f"-Djavax.net.ssl.trustStore={store}"]


def _ivy_jar() -> Path:
    folder = Path(str(distribution("pyspark").locate_file("pyspark/jars")))
    return next(folder.glob("ivy-*.jar"))


def _ivy_descriptor(jar_set: JarSet) -> str:
    dependencies = "".join(
        f'<dependency org="{group}" name="{artifact}" rev="{version}" conf="*->default"/>'
        for group, artifact, version in (c.split(":") for c in jar_set.coordinates)
    )
    return (
        '<ivy-module version="2.0"><info organisation="tapeline" module="local"/>'
        '<configurations><conf name="default"/></configurations>'
        f"<dependencies>{dependencies}</dependencies></ivy-module>"
    )
