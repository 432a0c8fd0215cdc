"""`tapeline stream` with its checkpoint in a real HDFS: on another host it goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tests.chaos.test_stream_faults import BATCHES, END_S, SMALL_STEPS, run_until_killed
from tests.cluster.hdfs import Hdfs
from tests.commands import fail
from tests.stream_runs import StretchedLoad, stream_run

pytestmark = pytest.mark.long
KILLED_AT_PASS = 4


def another_home(home: Home, folder: Path) -> Path:
    """Return a home in which nothing is known of the other one but its jars."""
    folder.mkdir()
    (folder / "jars").symlink_to(home.jars)
    return folder


def services(stack: Endpoints) -> dict[str, str]:
    """Return what leads a command of another home to the services."""
    return {
        "TAPELINE_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        "TAPELINE_CASSANDRA__HOST": stack.cassandra_host,
        "TAPELINE_CASSANDRA__PORT": str(stack.cassandra_port),
    }


def test_a_stream_that_was_killed_goes_on_in_another_home_where_it_was(
    stack: Endpoints, home: Home, hdfs: Hdfs, tmp_path: Path
) -> None:
    load = StretchedLoad(BATCHES * 2500, 20, 1)
    settings = {**SMALL_STEPS, **services(stack)}
    with stream_run(stack, tmp_path, load, settings) as run:
        run.checkpoint_dir = f"{hdfs.uri}/{run.name}"
        run_until_killed(run, "after_silver", KILLED_AT_PASS)
        run.settings = {**settings, "TAPELINE_HOME": str(another_home(home, tmp_path / "other"))}
        again = run.start()
        code = again.wait(END_S)
        log = run.log_of(again)
        assert code == 0, log
        run.check()

    assert "checkpoint_waited_for" in log
    assert "checkpoint_set_aside" not in log
    assert f"event=batch_ingested batch={KILLED_AT_PASS - 1}" in log, log
    assert "event=batch_ingested batch=0" not in log
    assert not (tmp_path / "other" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("where", "code", "said"),
    [
        ("hdfs://127.0.0.1:1/any", 3, "The file system of hdfs://127.0.0.1:1/any"),
        ("hdfs://no-such-host.invalid/any", 3, "does not answer: there is no host no-such-host"),
        ("s3a://bucket/any", 2, "--packages org.apache.hadoop:hadoop-aws:3.3.4"),
        ("s3://bucket/any", 2, "Spark has no file system for s3://"),
    ],
)
def test_a_file_system_that_is_not_there_is_said_in_a_sentence(
    stack: Endpoints, tmp_path: Path, where: str, code: int, said: str
) -> None:
    with stream_run(stack, tmp_path, StretchedLoad(100, 5, 1), services(stack)) as run:
        run.checkpoint_dir = where
        found, output = fail("stream", *run.arguments, environment=run.environment)
    assert said in output
    assert found == code, output


def test_a_folder_that_is_somebody_elses_is_said_in_a_sentence(
    stack: Endpoints, hdfs: Hdfs, tmp_path: Path
) -> None:
    with stream_run(stack, tmp_path, StretchedLoad(100, 5, 1), services(stack)) as run:
        run.checkpoint_dir = f"{hdfs.uri}/{run.name}"
        environment = {**run.environment, "HADOOP_USER_NAME": "somebody"}
        found, output = fail("stream", *run.arguments, environment=environment)
    assert f"We have no right to {run.checkpoint_dir}" in output
    assert "Permission denied: user=somebody, access=WRITE" in output
    assert found == 2, output
