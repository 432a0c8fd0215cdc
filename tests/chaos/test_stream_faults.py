"""The stream while it, its host's Cassandra or the feed fails: nothing lost, nothing twice.

Real processes: `tapeline stream` with its Spark, Kafka and Cassandra. What must come out is worked
out from the trades in plain Python. `CHAOS_SEEDS` says how many seeds each kill has, 2 if not
set; a seed chooses the trades and at which pass of its point the stream is killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from cassandra.cluster import NoHostAvailable
from rich.console import Console

from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.service import RunningService
from tapeline.local.stack import LocalStack
from tapeline.local.state import CASSANDRA, KAFKA, all_noted
from tapeline.local.supervisor import Child, child_process, keep_alive
from tapeline.program.process import STOPPED_EXIT_CODE
from tapeline.program.profile import Profile
from tapeline.program.settings import load_settings
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.connection import RestartedError
from tests.commands import TIMEOUT_S, wait_for
from tests.kill_points import IN_FINALIZING, POINTS
from tests.stream_runs import LOG_OF_STEPS, PacedLoad, StreamRun, StretchedLoad, stream_run

SEEDS = range(1, 1 + int(os.environ.get("CHAOS_SEEDS", "2")))
QUICK = {("after_silver", 1), ("after_changes", 1)}
BACK_S = 60.0
"""How long a stream may take from the kill to its next step, on a machine of its own."""
CAUGHT_UP_S = 120.0
"""How long one may take to make up for an outage, there."""
AWAY_S = 15.0
LONG_AWAY_S = 180.0
FEED_PER_S = 200
FEED_S = 380
STARTS = 3
"""How often a stream may have to be started once Cassandra is there again."""

SMALL_STEPS = {
    "TAPELINE_STREAM__MAX_OFFSETS_PER_TRIGGER": "2500",
    "TAPELINE_STREAM__FINALIZE_MAX_WINDOWS": "15",
    "TAPELINE_STREAM__FINALIZE_INTERVAL_S": "0.2",
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
    stack: Endpoints,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    point: str,
    seed: int,
    *,
    is_long: bool,
) -> None:
    load = StretchedLoad(BATCHES * 2500, 20, seed)
    most = 2 if point in IN_FINALIZING else BATCHES - 1
    at_pass = random.Random(seed).randint(1, most)  # noqa: S311 - a choice, not a secret
    with stream_run(stack, tmp_path, load, SMALL_STEPS) as run:
        killed_s = run_until_killed(run, point, at_pass)
        restarted = run.start()
        wait_for(
            lambda: is_at_work(run.log_of(restarted)) or restarted.poll() is not None, TIMEOUT_S
        )
        back_s = time.monotonic() - killed_s
        assert restarted.wait(TIMEOUT_S) == 0, run.log_of(restarted)
        run.check()

    with capsys.disabled():
        told = f"{point}, pass {at_pass}, {load.name}: back after {back_s:.1f} s"
        print(f"\n{told}, {run.loaded.truth.trades} trades, none lost")  # noqa: T201 - for the reader
    assert back_s < BACK_S or not is_long


def run_until_killed(run: StreamRun, point: str, at_pass: int) -> float:
    """Run a stream until it was killed at a point; return when, on the monotonic clock."""
    process = run.start_with_kill(point, at_pass)
    assert process.wait(TIMEOUT_S) == -9, run.log_of(process)
    killed_s = time.monotonic()
    # Python and Java at least.
    assert len(killed_at(run, point)) >= 2
    return killed_s


def killed_at(run: StreamRun, point: str) -> list[int]:
    """Return which processes were killed at a point; all of them are gone."""
    hit = json.loads(run.marker.read_text(encoding="utf-8"))
    assert hit["point"] == point
    pids: list[int] = hit["pids"]
    wait_for(lambda: not any(is_alive(pid) for pid in pids))
    return pids


def is_at_work(log: str) -> bool:
    return any(step in log for step in LOG_OF_STEPS)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.long
@pytest.mark.parametrize("away", [CASSANDRA, KAFKA, None])
def test_sigterm_ends_the_stream_within_ten_seconds_whatever_hangs(
    stack: Endpoints,
    home: Home,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    away: str | None,
) -> None:
    load = StretchedLoad(BATCHES * 2500, 20, 1)
    with stream_run(stack, tmp_path, load, SMALL_STEPS) as run:
        process = run.start()
        wait_for(lambda: run.committed() > 0, TIMEOUT_S, process)
        with halted(home, away):
            asked_s = time.monotonic()
            process.terminate()
            code = process.wait(60)
            took_s = time.monotonic() - asked_s
        left = load.count - run.committed()
        restarted = run.start()
        assert restarted.wait(TIMEOUT_S) == 0, run.log_of(restarted)
        run.check()

    with capsys.disabled():
        told = f"{away or 'nothing'} halted: gone {took_s:.1f} s after SIGTERM, {left} unread"
        print(f"\n{told}, none lost")  # noqa: T201 - for the reader
    assert code == STOPPED_EXIT_CODE
    assert took_s < 10


@contextmanager
def halted(home: Home, name: str | None) -> Iterator[None]:
    """Let a service stand still for a while, for two seconds at least."""
    if name is None:
        yield
        return
    pid = service_of(home, name).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(2)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("away_s", [AWAY_S, pytest.param(LONG_AWAY_S, marks=pytest.mark.long)])
def test_cassandra_killed_while_a_backlog_is_read_loses_nothing(
    stack: Endpoints,
    home: Home,
    turn: Callable[[], AbstractContextManager[None]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    away_s: float,
    *,
    is_long: bool,
) -> None:
    """The stream is looked after as `demo` and `replay` look after theirs.

    It is the test's turn before the stream begins, which may have read everything while the test
    waits for it.
    """
    load = StretchedLoad(12 * 2500, 20, 1)
    with stream_run(stack, tmp_path, load, SMALL_STEPS) as run, ExitStack() as beside:
        with turn():
            stream = child_process(["stream", *run.arguments], tmp_path, run.environment)
            child = beside.enter_context(stream)
            wait_for(lambda: run.committed() >= load.count // 4, TIMEOUT_S)
            before = run.committed()
            with service_killed(home, CASSANDRA):
                until_s = time.monotonic() + away_s
                wait_for(lambda: keeps_on(child) and time.monotonic() > until_s and hears(child))
        again_s = time.monotonic()
        read = len(child.log_file.read_text())
        wait_for(lambda: keeps_on(child) and is_at_work(child.log_file.read_text()[read:]))
        back_s = time.monotonic() - again_s
        wait_for(lambda: not keeps_on(child), TIMEOUT_S)
        caught_up_s = time.monotonic() - again_s
        run.check()

    with capsys.disabled():
        told = f"Cassandra away for {away_s:.0f} s from {before} of {load.count} messages on"
        told = f"{told}: back {back_s:.1f} s after it, all final after {caught_up_s:.1f} s"
        print(f"\n{told}, {child.restarts} restarts, none lost")  # noqa: T201 - for the reader
    assert before < load.count
    assert (back_s < BACK_S and caught_up_s < CAUGHT_UP_S) or not is_long


@pytest.mark.long
def test_cassandra_killed_for_three_minutes_while_the_feed_goes_on_loses_nothing(
    stack: Endpoints,
    home: Home,
    turn: Callable[[], AbstractContextManager[None]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Caught up is a stream that is no further behind than what the feed brings in five seconds."""
    load = PacedLoad(StretchedLoad(FEED_S * FEED_PER_S, 20, 1), FEED_PER_S)
    with (
        stream_run(stack, tmp_path, load, {}) as run,
        child_process(["stream", *run.arguments], tmp_path, run.environment) as child,
    ):
        wait_for(lambda: run.committed() >= load.whole.count // 20, TIMEOUT_S)
        with turn(), service_killed(home, CASSANDRA):
            brought = load.brought
            until_s = time.monotonic() + LONG_AWAY_S
            while time.monotonic() < until_s:
                keep_alive([child])
                time.sleep(0.2)
            missed = load.brought - brought
        again_s = time.monotonic()
        wait_for(lambda: keeps_on(child) and has_caught_up(run, load), TIMEOUT_S)
        caught_up_s = time.monotonic() - again_s
        still_brings = not run.filling.done()
        wait_for(lambda: not keeps_on(child), TIMEOUT_S)
        run.check()

    with capsys.disabled():
        told = f"Cassandra away for {LONG_AWAY_S:.0f} s, {missed} messages came meanwhile"
        told = f"{told}; caught up {caught_up_s:.1f} s after it, {child.restarts} restarts"
        print(f"\n{told}, {run.loaded.truth.trades} trades, none lost")  # noqa: T201 - for the reader
    assert missed > LONG_AWAY_S * FEED_PER_S * 0.9
    assert still_brings
    assert caught_up_s < CAUGHT_UP_S


def hears(child: Child) -> bool:
    """Return whether a stream has met an error of Cassandra's."""
    return child.restarts > 0 or "finalize_repeated" in child.log_file.read_text()


def has_caught_up(run: StreamRun, load: PacedLoad) -> bool:
    with suppress(NoHostAvailable):  # the test's own client may find the node later than the stream
        return load.brought - run.committed() <= 5 * FEED_PER_S
    return False


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("point", ["after_silver", "before_commit", "between_5m_and_1h"])
def test_cassandra_killed_at_a_named_point_has_kept_what_it_acknowledged(
    stack: Endpoints,
    home: Home,
    turn: Callable[[], AbstractContextManager[None]],
    tmp_path: Path,
    point: str,
    seed: int,
) -> None:
    """What is marked as done right before the kill must not be undone by it."""
    load = StretchedLoad(BATCHES * 2500, 20, seed)
    at_pass = random.Random(seed).randint(1, 2)  # noqa: S311 - a choice, not a secret
    victim = service_of(home, CASSANDRA).pid
    with stream_run(stack, tmp_path, load, SMALL_STEPS) as run:
        process = run.start_with_kill(point, at_pass, victim)
        wait_for(run.marker.exists, TIMEOUT_S, process)
        with turn():
            assert killed_at(run, point) == [victim]
            start_again(home, CASSANDRA)
        for _ in range(STARTS):
            if process.wait(TIMEOUT_S) == 0:
                break
            process = run.start()
        assert process.wait(TIMEOUT_S) == 0, run.log_of(process)
        run.check()


def keeps_on(child: Child) -> bool:
    """Look after a child; return whether it has not ended well yet."""
    keep_alive([child])
    return child.exit_code != 0


def service_of(home: Home, name: str) -> RunningService:
    (service,) = (s for s in all_noted(home) if s.name == name)
    return service


def test_a_restart_of_cassandra_within_a_piece_of_work_is_noticed(
    stack: Endpoints, home: Home, turn: Callable[[], AbstractContextManager[None]]
) -> None:
    client = CassandraClient(load_settings().cassandra, stack.cassandra_host, stack.cassandra_port)
    with closing(client):
        with turn(), pytest.raises(RestartedError), client.in_one_life():
            restart_cassandra(home, client)
        with client.in_one_life():
            assert answers(client)


def restart_cassandra(home: Home, client: CassandraClient) -> None:
    with service_killed(home, CASSANDRA):
        pass
    wait_for(lambda: answers(client))


def answers(client: CassandraClient) -> bool:
    with suppress(NoHostAvailable):
        return client.generation() is not None
    return False


@contextmanager
def service_killed(home: Home, name: str) -> Iterator[None]:
    """Kill a service as a crash does, and have it again afterwards where it was."""
    service = service_of(home, name)
    os.kill(service.pid, signal.SIGKILL)
    wait_for(lambda: service.process() is None)
    try:
        yield
    finally:
        start_again(home, name)


def start_again(home: Home, name: str) -> None:
    port = service_of(home, name).port
    LocalStack(home, Console(quiet=True), Profile.SMALL).up(keep=True)
    assert service_of(home, name).port == port
