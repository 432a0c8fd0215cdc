"""The disk under the checkpoint is full: the stream stops with a sentence, and then goes on.

Real processes and a real full disk: a file system of 64 KiB in memory, mounted where this test
alone sees it. It needs a Linux that lets a user have namespaces.
"""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tapeline.local.discovery import Endpoints
from tests.stream_runs import StreamRun, StretchedLoad, stream_run

BATCHES: Final = 8
SMALL_STEPS: Final = {"TAPELINE_STREAM__MAX_OFFSETS_PER_TRIGGER": "2500"}
SIZE_KIB: Final = 64
"""A batch leaves four files of a page of 4 KiB each: there is room for three of them."""
END_S: Final = 240.0
_KEEP: Final = (
    'mount -t tmpfs -o size="$2"k tmpfs "$1" && echo $$ && read -r _ '
    '&& mount -o remount,size=64m "$1" && echo grown && read -r _'
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
def small_disk(folder: Path, size_kib: int) -> Iterator[SmallDisk]:
    """Mount a small disk in a namespace of its own, where a run's checkpoint is."""
    mounted = folder / "checkpoint"
    mounted.mkdir()
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    with subprocess.Popen(
        [*namespace, "sh", "-c", _KEEP, "sh", str(mounted), str(size_kib)],
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


@pytest.mark.long
@pytest.mark.parametrize("is_full_at_once", [False, True])
def test_a_full_disk_under_the_checkpoint_stops_the_stream_with_a_sentence_and_then_it_goes_on(
    stack: Endpoints, tmp_path: Path, *, is_full_at_once: bool
) -> None:
    load = StretchedLoad(BATCHES * 2500, 20, 1)
    with (
        small_disk(tmp_path, SIZE_KIB) as disk,
        stream_run(stack, tmp_path, load, SMALL_STEPS) as run,
    ):
        run.within = disk.enter
        if is_full_at_once:
            disk.fill()
        for _ in range(2):  # a supervisor starts it again, and it is as clear
            require_loud_stop(run)
            disk.fill()
        before = run.committed()
        disk.grow()
        again = run.start()
        assert again.wait(END_S) == 0, run.log_of(again)
        run.check()

    assert before < load.count
    assert (before == 0) == is_full_at_once


def require_loud_stop(run: StreamRun) -> None:
    """Require that a stream ends by itself, with the code and the reason in one sentence."""
    process = run.start()
    code = process.wait(END_S)
    log = run.log_of(process)
    assert code == 7, log
    (sentence,) = [line for line in log.splitlines() if line.startswith("Error")]
    assert "No space left on device" in sentence, log
    assert "Traceback" not in log
