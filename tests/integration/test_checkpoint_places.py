"""A folder of this machine, and one that is reached by Hadoop: the same calls do the same.

Hadoop's own file system of a local disk stands for any other; `tests/cluster` has a real HDFS.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tapeline.consumer.checkpoint_label import CheckpointLabel
from tapeline.consumer.checkpoint_place import (
    Place,
    delete_folder,
    location,
    names_in,
    numbers_in,
)
from tapeline.consumer.checkpoints import Checkpoints
from tapeline.consumer.driver_lock import DriverLock
from tapeline.consumer.hadoop_path import HadoopFileSystem, HadoopPath, place_of
from tapeline.model.errors import ServiceUnavailableError, StreamError, UsageError
from tapeline.program.settings import Settings


@pytest.fixture(params=["path", "hadoop"])
def place(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> Place:
    folder = tmp_path / "Jürgen's, 100 %"
    if request.param == "path":
        return folder
    uri = f"file://{folder}"
    return HadoopPath(HadoopFileSystem(uri, lambda: spark), uri)


def test_what_was_written_is_read_and_nothing_else(place: Place) -> None:
    file = place / "tapeline.json"
    place.mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    for content in (b"a longer one\n\xff\0", b"short", b""):
        assert file.write_bytes(content) == len(content)
        assert file.read_bytes() == content
    assert (file.name, file.exists(), place.exists()) == ("tapeline.json", True, True)


@pytest.mark.parametrize(
    "use", [lambda p: p.read_bytes(), lambda p: list(p.iterdir()), lambda p: p.unlink()]
)
def test_what_is_not_there_is_said_as_python_does(
    place: Place, use: Callable[[Place], object]
) -> None:
    assert not (place / "none").exists()
    with pytest.raises(FileNotFoundError):
        use(place / "none")
    (place / "none").unlink(missing_ok=True)
    delete_folder(place / "none")
    assert names_in(place / "none") == []


def test_a_file_that_is_to_be_new_is_made_by_one_alone(place: Place) -> None:
    place.mkdir(parents=True, exist_ok=True)
    file = place / "1"
    file.touch(exist_ok=False)
    file.write_bytes(b"ours")
    with pytest.raises(FileExistsError):
        file.touch(exist_ok=False)
    file.touch()
    assert file.read_bytes() == b"ours"


def test_files_and_folders_are_renamed_and_deleted(place: Place) -> None:
    (place / "a" / "b").mkdir(parents=True, exist_ok=True)
    for name in ("7", "10", "x1", ".3.crc"):
        (place / "a" / name).write_bytes(name.encode())
    (place / "a").rename(place / "c")
    assert numbers_in(place / "c") == [7, 10]
    (place / "c" / "7").replace(place / "c" / "10")
    assert (place / "c" / "10").read_bytes() == b"7"
    assert {"10", "b", "x1"} <= set(names_in(place / "c"))
    (place / "c" / "x1").unlink()
    assert numbers_in(place / "c") == [10]
    delete_folder(place / "c")
    assert names_in(place) == []


def test_a_checkpoint_is_labelled_set_aside_and_reset(place: Place) -> None:
    checkpoints = Checkpoints(place)
    label = CheckpointLabel.of("ingest", Settings(), "topic-1")
    label.write(checkpoints.folder("ingest"))
    label.write(checkpoints.folder("ingest"))
    assert CheckpointLabel.read(checkpoints.folder("ingest")) == label

    for _ in range(2):
        checkpoints.set_aside("ingest", "another version")
        assert checkpoints.was_set_aside("ingest")
        assert CheckpointLabel.read(place / "ingest.aside") == label
        label.write(checkpoints.folder("ingest"))
    checkpoints.reset("ingest", confirmed=True)
    assert not checkpoints.folder("ingest").exists()
    assert not (place / "ingest.aside").exists()


def test_a_lock_of_several_hosts_is_held_by_one(place: Place) -> None:
    first, second = DriverLock(place, 0.2, 2.0), DriverLock(place, 0.2, 2.0)
    first.take("Another one.", 0)
    with pytest.raises(UsageError, match=r"Another one\. It runs on"):
        second.take("Another one.", 0)
    first.release()
    second.take("Another one.", 0)
    second.require()
    second.release()
    assert numbers_in(place) == [2]


def test_spark_is_told_which_file_system_is_meant(tmp_path: Path, spark: SparkSession) -> None:
    """A path alone would be one of Hadoop's default, where nobody of us looks."""
    assert location(tmp_path / "a b") == f"file://{tmp_path}/a b"
    assert location(Path("a")) == f"file://{Path.cwd()}/a"
    assert location(place_of("hdfs://names/a", lambda: spark)) == "hdfs://names/a"
    assert place_of(str(tmp_path), lambda: spark) == tmp_path


@pytest.mark.parametrize(
    ("uri", "error", "said"),
    [
        ("hdfs://127.0.0.1:1/a", ServiceUnavailableError, "does not answer: Connection refused. "),
        ("hdfs://none.invalid/a", ServiceUnavailableError, "there is no host none.invalid. Start"),
        ("s3a://bucket/a", UsageError, "--packages org.apache.hadoop:hadoop-aws:3.3.4 "),
        ("s3://bucket/a", UsageError, "has no file system for s3://, so s3://bucket/a cannot be"),
        ("hdfs:///a", StreamError, "hdfs:///a cannot be used: "),
    ],
)
def test_a_file_system_that_cannot_be_used_is_said_in_a_sentence(
    spark: SparkSession, uri: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as raised:
        place_of(uri, lambda: spark).exists()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
