"""The disk under the checkpoint is full: the stream stops with a sentence, and then goes on.

Real processes and a real full disk of 64 KiB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tapeline.local.discovery import Endpoints
from tests.commands import TIMEOUT_S
from tests.small_disk import small_disk
from tests.stream_runs import StreamRun, StretchedLoad, stream_run

BATCHES: Final = 8
SMALL_STEPS: Final = {"TAPELINE_STREAM__MAX_OFFSETS_PER_TRIGGER": "2500"}
SIZE_KIB: Final = 64
"""A batch leaves four files of a page of 4 KiB each: there is room for three of them."""
GROWN_KIB: Final = 64 * 1024


@pytest.mark.long
@pytest.mark.parametrize("is_full_at_once", [False, True])
def test_a_full_disk_under_the_checkpoint_stops_the_stream_with_a_sentence_and_then_it_goes_on(
    stack: Endpoints, tmp_path: Path, *, is_full_at_once: bool
) -> None:
    load = StretchedLoad(BATCHES * 2500, 20, 1)
    with (
        small_disk(tmp_path / "checkpoint", SIZE_KIB, GROWN_KIB) as disk,
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
        assert again.wait(TIMEOUT_S) == 0, run.log_of(again)
        run.check()

    assert before < load.count
    assert (before == 0) == is_full_at_once


def require_loud_stop(run: StreamRun) -> None:
    """Require that a stream ends by itself, with the code and the reason in one sentence."""
    process = run.start()
    code = process.wait(TIMEOUT_S)
    log = run.log_of(process)
    assert code == 7, log
    (sentence,) = [line for line in log.splitlines() if line.startswith("Error")]
    assert "No space left on device" in sentence, log
    assert str(run.folder / "checkpoint") in sentence, log
    assert "Traceback" not in log
