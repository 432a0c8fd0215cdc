"""A real disk that is soon full: a file system in memory, mounted where a test alone sees it.

It needs a Linux that lets a user have namespaces.
"""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KEEP: Final = (
    'mount -t tmpfs -o size="$2"k tmpfs "$1" && echo $$ && read -r _ '
    '&& mount -o remount,size="$3"k "$1" && echo grown && read -r _'
)


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A file system of a few pages; it is there as long as the process that mounted it."""

    mounted: Path
    _keeper: subprocess.Popen[str]
    _pid: str

    @property
    def enter(self) -> list[str]:
        """What starts a command so that it sees the disk."""
        return ["nsenter", "-t", self._pid, "--user", "--mount", "--wd", "--preserve-credentials"]

    def fill(self) -> None:
        """Take what room is left."""
        # Seen from outside, it is below the root of its keeper.
        seen = Path(f"/proc/{self._pid}/root{self.mounted}")
        with (seen / "filler").open("ab", buffering=0) as file:
            while True:
                try:
                    file.write(b"x" * 4096)
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017 - the end of the loop
                    return

    def grow(self) -> None:
        """Give it room enough for everything; what it holds stays."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.write("\n")
        self._keeper.stdin.flush()
        assert self._keeper.stdout.readline() == "grown\n"


@contextmanager
def small_disk(mounted: Path, size_kib: int, grown_kib: int) -> Iterator[SmallDisk]:
    """Mount a small disk on a new folder, in a namespace of its own."""
    mounted.mkdir(parents=True)
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    with subprocess.Popen(
        [*namespace, "sh", "-c", _KEEP, "sh", str(mounted), str(size_kib), str(grown_kib)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as keeper:
        assert keeper.stdout is not None
        pid = keeper.stdout.readline().strip()
        try:
            yield SmallDisk(mounted, keeper, pid)
        finally:
            keeper.kill()
