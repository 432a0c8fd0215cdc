"""The JVM of a Spark that we start: its options, and the archive of its classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

from tapeline.consumer.own_spark import own_spark_home
from tapeline.local.class_archive import ArchiveUse, use_archive
from tapeline.local.home import Home
from tapeline.program.profile import JvmSizes

NAME: Final = "spark"
# Whatever else Spark's launcher puts on the class path.
_CLASS_PATH_VARIABLES: Final = (
    "SPARK_CONF_DIR",
    "HADOOP_CONF_DIR",
    "YARN_CONF_DIR",
    "SPARK_DIST_CLASSPATH",
)
_LAUNCHER_OPTIONS: Final = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def spark_archive(
    home: Home, java_home: Path, jars: Sequence[Path], *, records: bool
) -> ArchiveUse:
    """Return how Spark's driver uses an archive of its classes, or records for one.

    Args:
        home: where the archives are.
        java_home: of its Java.
        jars: on its class path before Spark's own.
        records: whether it runs the stream, so that it loads what the next one will.
    """
    entries = [*map(str, jars), str(own_spark_home() / "jars" / "*")]
    entries += [os.environ.get(name, "") for name in _CLASS_PATH_VARIABLES]
    return use_archive(
        home.class_archives, NAME, java_home, os.pathsep.join(entries), records=records
    )


def java_options(sizes: JvmSizes, archive: ArchiveUse) -> str:
    """Return the options of the driver's JVM in one string, as Spark takes them."""
    # The short-lived program that only puts together the JVM's command.
    os.environ.setdefault("SPARK_LAUNCHER_OPTS", _LAUNCHER_OPTIONS)
    options = (f"-Xms{sizes.first_heap}", *sizes.options, *archive.options)
    return " ".join(f'"{option}"' for option in options)


def record_classes(archive: ArchiveUse, pid: int) -> None:
    """Note which JVM records, and the class path that Spark's launcher has given it."""
    if archive.recording is not None:
        command = psutil.Process(pid).cmdline()
        archive.started(pid, class_path=command[command.index("-cp") + 1])
