"""Class data archives: what a JVM has made of its classes, kept for the next start.

The first JVM of a kind records which classes it loads. When it has ended, a process of low priority
makes an archive of them beside the jars, and the next JVM maps that into memory instead of reading,
checking and laying out each class again.

An archive's name holds a hash of the Java and of all jars, so another version has another archive.
It appears under its name only when it is whole, so any step may be killed, and two processes may
make one at once. A JVM that finds no archive, or one that does not fit, starts as it always would.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from xxhash import xxh64

from tapeline.local.java import java_environment
from tapeline.local.lock import held

_RECIPE: Final = "recipe.json"
_CLASSES: Final = "classes"
_PART: Final = "archive"
_LOCK: Final = "making.lock"
_NICE: Final = 19
_END_S: Final = 60.0
_POLL_S: Final = 0.2
_DUMP_TIMEOUT_S: Final = 900.0
_WORTHWHILE_S: Final = 30.0
"""A JVM that loaded its last class sooner has not loaded what the next one will need."""
_UNUSED_S: Final = 30 * 86_400.0
"""An archive that no JVM was started with for so long is of versions that are gone."""
_DUMP_HEAP: Final = "768m"
# A JVM says at length why it does not use an archive, and then starts as without.
_SILENT: Final = "-Xlog:cds=off"


@dataclass(frozen=True, slots=True)
class ArchiveUse:
    """The options of one JVM's command, and the folder into which it records, if it does."""

    options: tuple[str, ...]
    recording: Path | None = None

    def started(self, pid: int, class_path: str | None = None) -> None:
        """Note which process records, so that its end is known, and the class path that it has."""
        if self.recording is None:
            return
        recipe = self.recording / _RECIPE
        fields = {**json.loads(recipe.read_text(encoding="utf-8")), "pid": pid}
        if class_path is not None:
            fields["class_path"] = class_path
        recipe.write_text(json.dumps(fields), encoding="utf-8")


def use_archive(
    folder: Path, name: str, java_home: Path, class_path: str, *, records: bool = True
) -> ArchiveUse:
    """Return how a JVM is started with its archive, or how it records for one.

    Args:
        folder: of the archives.
        name: what the JVM runs, e.g. `kafka`.
        java_home: of its Java.
        class_path: as it is given to `java -cp`, or all that decides what is given.
        records: whether it loads what the next one will; else it does not record.
    """
    archive = folder / f"{name}-{_key_of(java_home, class_path)}.jsa"
    if archive.is_file():
        with contextlib.suppress(OSError):
            archive.touch()  # still of use
        return ArchiveUse((f"-XX:SharedArchiveFile={archive}", "-Xshare:auto", _SILENT))
    if not records:
        return ArchiveUse(())
    recipe = {"java_home": str(java_home), "class_path": class_path, "archive": str(archive)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        recording = Path(tempfile.mkdtemp(prefix=f"{name}-", suffix=".recording", dir=folder))
        (recording / _RECIPE).write_text(json.dumps(recipe), encoding="utf-8")
    except OSError:  # a folder of somebody else's, or a full disk
        return ArchiveUse(())
    return ArchiveUse((f"-XX:DumpLoadedClassList={recording / _CLASSES}",), recording)


def make_archives_later(folder: Path, after_pid: int | None = None) -> None:
    """Let a process of its own make the archives that were recorded, and do not wait for it.

    Args:
        folder: of the archives.
        after_pid: a process that records and is about to end.
    """
    if not any(folder.glob("*.recording")):
        return
    command = [sys.executable, "-m", __name__, str(folder), str(after_pid or "")]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    process.returncode = 0  # it outlives us, and nobody asks how it ended


def make_archives(folder: Path) -> None:
    """Make what was recorded by JVMs that have ended, one after another.

    Raises:
        UsageError: another process is at it for longer than it should be.
    """
    with held(folder / _LOCK, "Archives are being made by another process.", _DUMP_TIMEOUT_S):
        for recording in _ended(folder):
            try:
                _make(recording)
            finally:
                shutil.rmtree(recording, ignore_errors=True)


def _ended(folder: Path) -> Iterator[Path]:
    """Yield recordings whose JVM has ended, and those of which nobody noted the JVM."""
    for recording in sorted(folder.glob("*.recording")):
        try:
            recipe = recording / _RECIPE
            pid = json.loads(recipe.read_text(encoding="utf-8")).get("pid")
            is_being_started = time.time() - recipe.stat().st_mtime < _END_S
        except (OSError, ValueError):
            pid, is_being_started = None, False
        if (pid is None and not is_being_started) or (pid and not psutil.pid_exists(pid)):
            yield recording


def _make(recording: Path) -> None:
    try:
        recipe_file, classes = recording / _RECIPE, recording / _CLASSES
        recipe = json.loads(recipe_file.read_text(encoding="utf-8"))
        took_s = classes.stat().st_mtime - recipe_file.stat().st_mtime
        archive = Path(recipe["archive"])
        if archive.exists() or took_s < _WORTHWHILE_S:
            return
        # A JVM that was killed has left half a line.
        names = classes.read_bytes().rpartition(b"\n")[0]
        classes.write_bytes(names + b"\n")
    except (OSError, ValueError, KeyError):
        return
    part = recording / _PART
    command = [
        str(Path(recipe["java_home"]) / "bin" / "java"),
        f"-Xmx{_DUMP_HEAP}",
        "-Xshare:dump",
        f"-XX:SharedClassListFile={classes}",
        f"-XX:SharedArchiveFile={part}",
        "-Xlog:disable",
        "-cp",
        recipe["class_path"],
    ]
    dump = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_DUMP_TIMEOUT_S,
        check=False,
        env=java_environment(Path(recipe["java_home"])),
    )
    if dump.returncode == 0 and part.is_file():
        part.replace(archive)
        for other in archive.parent.glob("*.jsa"):
            if time.time() - other.stat().st_mtime > _UNUSED_S:
                other.unlink()


def _key_of(java_home: Path, class_path: str) -> str:
    """Return a hash of the Java and of every jar: its name, size and time, as the JVM checks."""
    parts = [class_path]
    for entry in (str(java_home / "lib" / "modules"), *class_path.split(os.pathsep)):
        path = Path(entry)
        files = sorted(path.parent.glob("*.jar")) if path.name == "*" else [path]
        for file in files:
            if file.is_file():
                status = file.stat()
                parts.append(f"{file.name} {status.st_size} {status.st_mtime_ns}")
    return xxh64("\n".join(parts).encode()).hexdigest()


def main() -> None:
    """Make what was recorded in a folder, after the end of a process if one is named."""
    folder, after_pid = Path(sys.argv[1]), sys.argv[2]
    os.nice(_NICE)
    deadline = time.monotonic() + _END_S
    while after_pid and psutil.pid_exists(int(after_pid)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    make_archives(folder)


if __name__ == "__main__":
    main()
