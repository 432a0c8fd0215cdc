"""What docs/checkpoints.md promises, of checkpoints in a real HDFS."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import orjson
import pytest
from pyspark.sql import SparkSession

from tapeline.consumer.checkpoint_label import CheckpointLabel
from tapeline.consumer.checkpoint_place import Place, delete_folder, names_in, numbers_in
from tapeline.consumer.driver_lock import STALE_S, DriverLock
from tapeline.consumer.hadoop_path import place_of
from tapeline.model.errors import SchemaError, ServiceUnavailableError, UsageError
from tests.cluster.hdfs import Hdfs
from tests.integration.test_checkpoint_recovery import is_read_again, prepare, send, silver_ids
from tests.pipeline import Pipeline

pytestmark = pytest.mark.long


def newest(folder: Place, log: str) -> Place:
    return folder / log / str(numbers_in(folder / log)[-1])


def remove_newest_commit(folder: Place) -> None:
    newest(folder, "commits").unlink()


def remove_metadata(folder: Place) -> None:
    (folder / "metadata").unlink()


def remove_label(folder: Place) -> None:
    (folder / "tapeline.json").unlink()


def spoil_label(folder: Place) -> None:
    (folder / "tapeline.json").write_bytes(b'{"format"')


def empty_newest_commit(folder: Place) -> None:
    newest(folder, "commits").write_bytes(b"")


def truncate_newest_offsets(folder: Place) -> None:
    file = newest(folder, "offsets")
    file.write_bytes(file.read_bytes()[:40])


def remove_newest_offsets(folder: Place) -> None:
    newest(folder, "offsets").unlink()


def remove_all_commits(folder: Place) -> None:
    delete_folder(folder / "commits")


def empty_metadata(folder: Place) -> None:
    (folder / "metadata").write_bytes(b"")


def move_half_of_it_aside(folder: Place) -> None:
    """As a driver leaves it that was killed while a store of objects moved file by file."""
    remove_label(folder)
    newest(folder, "offsets").unlink()
    newest(folder, "commits").unlink()
    begun = place_of(f"{folder}.aside_begun", SparkSession.builder.getOrCreate)
    begun.touch()


GOES_ON = [remove_newest_commit, remove_metadata, remove_label, spoil_label]
STARTS_OVER = [
    remove_all_commits,
    empty_newest_commit,
    truncate_newest_offsets,
    remove_newest_offsets,
    empty_metadata,
    move_half_of_it_aside,
]


def copy(source: Place, target: Place) -> None:
    """Copy a folder; what cannot be read as a file is one."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names_in(source):
        try:
            content = (source / name).read_bytes()
        except FileNotFoundError:
            copy(source / name, target / name)
        else:
            (target / name).write_bytes(content)


def test_a_damaged_checkpoint_goes_on_or_reads_the_topic_anew(
    pipeline: Pipeline, below: Place
) -> None:
    for trade_id in (1, 2, 3):
        send(pipeline, trade_id)
        pipeline.ingest(checkpoint="base")
    expected = {1, 2, 3}

    damages: list[Callable[[Place], None]] = [*GOES_ON, *STARTS_OVER]
    for n, damage in enumerate(damages):
        root = below / damage.__name__
        copy(below / "base" / "ingest", root / "ingest")
        damage(root / "ingest")
        send(pipeline, 10 + n)
        prepare(pipeline, damage.__name__)
        pipeline.ingest(checkpoint=damage.__name__)

        expected.add(10 + n)
        assert silver_ids(pipeline) == expected, damage.__name__
        assert (root / "ingest.aside").exists() == (damage in STARTS_OVER), damage.__name__
        assert not (root / "ingest.aside_begun").exists()
    assert names_in(below / "base" / "ingest")


def test_one_of_another_keyspace_or_of_an_emptied_one_is_refused_and_another_version_starts_over(
    pipeline: Pipeline, below: Place
) -> None:
    send(pipeline, 1)
    pipeline.ingest()
    cassandra = pipeline.settings.cassandra.model_copy(update={"keyspace": "other"})
    settings = pipeline.settings.model_copy(update={"cassandra": cassandra})
    with pytest.raises(SchemaError, match=f"is of keyspace {pipeline.name}: give keyspace other"):
        prepare(pipeline, "checkpoint", settings=settings)

    folder = below / "checkpoint" / "ingest"
    label = CheckpointLabel.read(folder)
    assert label is not None
    label.model_copy(update={"format": 0}).write(folder)
    prepare(pipeline, "checkpoint")
    assert is_read_again(pipeline)
    pipeline.ingest()
    assert silver_ids(pipeline) == {1}

    pipeline.session.execute("TRUNCATE ingest_progress")
    with pytest.raises(SchemaError, match="--reset-checkpoint"):
        prepare(pipeline, "checkpoint")


def test_lost_writes_are_noted_for_the_next_start(pipeline: Pipeline, below: Place) -> None:
    send(pipeline, 1)
    pipeline.ingest()
    checkpoints = pipeline.checkpoints()
    checkpoints.lost_writes.touch()
    checkpoints.lost_writes.touch()

    prepare(pipeline, "checkpoint")
    assert checkpoints.was_set_aside("ingest")
    assert not checkpoints.lost_writes.exists()
    assert names_in(below / "checkpoint" / "ingest.aside")


def test_a_second_driver_is_refused_and_resets_nothing(pipeline: Pipeline, below: Place) -> None:
    send(pipeline, 1)
    pipeline.ingest()
    checkpoints = pipeline.checkpoints()

    with checkpoints.held("ingest", wait_s=0) as require:
        with pytest.raises(UsageError, match=r"Another driver works on .* It runs on .*, process"):
            checkpoints.reset("ingest", confirmed=True)
        require()
    assert numbers_in(below / "checkpoint" / "ingest" / "commits")

    began_s = time.monotonic()
    checkpoints.reset("ingest", confirmed=True)
    assert time.monotonic() - began_s < STALE_S
    assert not (below / "checkpoint" / "ingest").exists()


def test_a_killed_driver_is_taken_over_and_none_is_while_the_name_node_stands_still(
    hdfs: Hdfs, below: Place
) -> None:
    folder = below / "ingest.drivers"
    with ExitStack() as stack:
        first, second = DriverLock(folder, 1.0, 5.0), DriverLock(folder, 1.0, 5.0)
        first.take("Another one.", 0)
        stack.callback(first.be_still)
        with hdfs.names.halted():
            time.sleep(10)
        time.sleep(3)
        first.require()
        with pytest.raises(UsageError, match=r"Another one\."):
            second.take("Another one.", 0)

        first.be_still()
        began_s = time.monotonic()
        second.take("Another one.", 0)
        stack.callback(second.release)
        assert time.monotonic() - began_s >= 5.0
        assert orjson.loads((folder / "2").read_bytes())["is_free"] is False


def test_a_name_node_that_stands_still_is_said_within_a_minute(
    hdfs: Hdfs, spark: SparkSession
) -> None:
    place = place_of(f"{hdfs.uri}/any", lambda: spark)
    with hdfs.names.halted():
        began_s = time.monotonic()
        with pytest.raises(ServiceUnavailableError, match=r"hdfs://.* does not answer: "):
            place.exists()
        assert time.monotonic() - began_s < 60
    assert place.exists() is False
