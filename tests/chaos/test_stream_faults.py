"""The stream while it, its host's Cassandra or the feed fails: nothing lost, nothing twice.

Real processes: `tapeline stream` with its Spark, Kafka and Cassandra. What must come out is worked
out from the trades in plain Python. `CHAOS_SEEDS` says how many seeds each kill has, 2 if not
set; a seed chooses the trades and at which pass of its point the stream is killed.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import psutil
import pytest

from tapeline.local.discovery import Endpoints
from tests.commands import wait_for
from tests.kill_points import IN_FINALIZING, POINTS
from tests.stream_runs import LOG_OF_STEPS, StreamRun, StretchedLoad, stream_run

SEEDS = range(1, 1 + int(os.environ.get("CHAOS_SEEDS", "2")))
QUICK = {("after_silver", 1), ("before_commit", 1), ("after_changes", 1)}
BACK_S = 60.0
"""How long a stream may take from the kill to its next step."""
END_S = 240.0

SMALL_STEPS = {
    "TAPELINE_STREAM__MAX_OFFSETS_PER_TRIGGER": "2500",
    "TAPELINE_STREAM__SETTLE_MAX_WINDOWS": "15",
    "TAPELINE_STREAM__SETTLE_INTERVAL_S": "0.2",
}
BATCHES = 8
"""Of the backlog; windows make many more chunks, and hours at least two."""


@pytest.mark.parametrize(
    ("point", "seed"),
    [
        pytest.param(
            point,
            seed,
            marks=[] if (point, seed) in QUICK else pytest.mark.long,
            id=f"{point}-{seed}",
        )
        for point in POINTS
        for seed in SEEDS
    ],
)
def test_kill_9_of_the_stream_at_a_named_point_changes_nothing(
    stack: Endpoints, tmp_path: Path, capsys: pytest.CaptureFixture[str], point: str, seed: int
) -> None:
    load = StretchedLoad(BATCHES * 2500, 20, seed)
    most = 2 if point in IN_FINALIZING else BATCHES - 1
    at_pass = random.Random(seed).randint(1, most)  # noqa: S311 - a choice, not a secret
    with stream_run(stack, tmp_path, load, SMALL_STEPS) as run:
        killed_s = run_until_killed(run, point, at_pass)
        restarted = run.start()
        wait_for(lambda: is_at_work(run.log_of(restarted)), BACK_S)
        back_s = time.monotonic() - killed_s
        assert restarted.wait(END_S) == 0, run.log_of(restarted)
        run.check()

    with capsys.disabled():
        told = f"{point}, pass {at_pass}, {load.name}: back after {back_s:.1f} s"
        print(f"\n{told}, {run.loaded.truth.trades} trades, none lost")  # noqa: T201 - for the reader
    assert back_s < BACK_S


def run_until_killed(run: StreamRun, point: str, at_pass: int) -> float:
    """Run a stream until it was killed at a point; return when, on the monotonic clock."""
    process = run.start_to_be_killed(point, at_pass)
    assert process.wait(END_S) == -9, run.log_of(process)
    killed_s = time.monotonic()
    hit = json.loads(run.marker.read_text(encoding="utf-8"))
    assert hit["point"] == point
    # Python and Java at least; all are gone.
    assert len(hit["pids"]) >= 2
    wait_for(lambda: not any(is_alive(pid) for pid in hit["pids"]), 10)
    return killed_s


def is_at_work(log: str) -> bool:
    return any(step in log for step in LOG_OF_STEPS)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
