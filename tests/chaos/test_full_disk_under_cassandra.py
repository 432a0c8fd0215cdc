"""The disk under Cassandra is full: it ends, the stream stops loudly, and both go on afterwards.

Real processes and a real full disk of some MiB.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest
from cassandra.cluster import NoHostAvailable
from rich.console import Console

from tapeline.local.discovery import find_endpoints
from tapeline.local.home import Home
from tapeline.local.stack import LocalStack
from tapeline.local.state import CASSANDRA, all_noted
from tapeline.program.settings import load_settings
from tests.commands import TIMEOUT_S, wait_for
from tests.small_disk import SmallDisk, small_disk
from tests.stream_runs import StreamRun, StretchedLoad, stream_run

BATCHES: Final = 12
SMALL_STEPS: Final = {"TAPELINE_STREAM__MAX_OFFSETS_PER_TRIGGER": "2500"}
SIZE_KIB: Final = 160 * 1024
GROWN_KIB: Final = 1024 * 1024


@pytest.mark.long
def test_a_full_disk_under_cassandra_ends_it_loudly_and_then_the_stream_goes_on(
    home: Home,
    turn: Callable[[], AbstractContextManager[None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Home(tmp_path / "home")
    own.root.mkdir()
    (own.root / "jars").symlink_to(home.jars)
    monkeypatch.setenv("TAPELINE_HOME", str(own.root))
    load = StretchedLoad(BATCHES * 2500, 20, 1)
    with small_disk(own.data / CASSANDRA, SIZE_KIB, GROWN_KIB) as disk:
        try:
            with turn():
                up(disk, exit_code=0)
            run_until_full_and_on(disk, own, turn, load, tmp_path)
        finally:
            LocalStack(own, Console(quiet=True)).down()


def run_until_full_and_on(
    disk: SmallDisk,
    own: Home,
    turn: Callable[[], AbstractContextManager[None]],
    load: StretchedLoad,
    folder: Path,
) -> None:
    with stream_run(find_endpoints(load_settings()), folder, load, SMALL_STEPS) as run:
        process = run.start()
        wait_for(lambda: run.committed() >= load.count // 4, TIMEOUT_S, process)
        disk.fill()
        code = process.wait(TIMEOUT_S)
        log = run.log_of(process)
        assert code == 7, log
        (sentence,) = [line for line in log.splitlines() if line.startswith("Error")]
        assert "it goes on where it was" in sentence, log
        (cassandra,) = (s for s in all_noted(own) if s.name == CASSANDRA)
        wait_for(lambda: cassandra.process() is None)
        with turn():
            assert f"The disk of {disk.mounted} is full" in up(disk, exit_code=4)
            disk.grow()
            up(disk, exit_code=0)
        wait_for(lambda: answers(run), TIMEOUT_S)
        assert run.committed() < load.count
        again = run.start()
        assert again.wait(TIMEOUT_S) == 0, run.log_of(again)
        run.check()


def answers(run: StreamRun) -> bool:
    """Return whether the test's own client has found the node again."""
    try:
        return run.committed() > 0
    except NoHostAvailable:
        return False


def up(disk: SmallDisk, exit_code: int) -> str:
    """Run `tapeline up` where the disk is seen; return its output."""
    command = [*disk.enter, sys.executable, "-m", "tapeline", "up", "--profile", "small"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    output = process.stdout + process.stderr
    assert process.returncode == exit_code, output
    return output
