"""Spark's log files in a checkpoint, as Spark 3.5 writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapeline.consumer.checkpoint_label import CheckpointLabel
from tapeline.consumer.checkpoint_log import CheckpointLog
from tapeline.consumer.failures import cause_of, full_disk
from tapeline.program.settings import Settings

COMMIT = 'v1\n{"nextBatchWatermarkMs":0}'


def offsets(end: int) -> str:
    return f'v1\n{{"batchWatermarkMs":0,"conf":{{}}}}\n{{"trades":{{"0":{end},"1":7}}}}'


@pytest.fixture
def folder(tmp_path):
    """Three batches, all of them committed."""
    for log, text in (("offsets", offsets), ("commits", lambda _: COMMIT)):
        (tmp_path / log).mkdir()
        for n in range(3):
            (tmp_path / log / str(n)).write_text(text(10 * (n + 1)))
            (tmp_path / log / f".{n}.crc").write_bytes(b"crc")
    (tmp_path / "metadata").write_text('{"id":"6627e063-f0a1-414c-ab01-b43149903cf4"}')
    return tmp_path


def test_a_sound_log_is_left_alone(folder):
    log = CheckpointLog(folder)

    assert (log.is_empty, log.damage()) == (False, None)
    assert log.next_offsets("trades") == {0: 30, 1: 7}
    assert log.next_offsets("other") == {}


@pytest.mark.parametrize(
    "text", ["", "v1\n", 'v1\n{"nextBatch', "v2\n{}", COMMIT + "\n{}", "v1\n[]"]
)
def test_a_commit_that_cannot_be_read_is_named(folder, text):
    (folder / "commits" / "2").write_text(text)

    assert CheckpointLog(folder).damage() == "commits/2 cannot be read"


@pytest.mark.parametrize("text", ["", "v1\n{}", offsets(30)[:-5], offsets(30) + "\n{}"])
def test_offsets_that_cannot_be_read_are_named(folder, text):
    (folder / "offsets" / "2").write_text(text)

    assert CheckpointLog(folder).damage() == "offsets/2 is missing or cannot be read"


def test_a_commit_of_a_batch_that_was_never_begun_is_damage(folder):
    (folder / "offsets" / "2").unlink()

    assert CheckpointLog(folder).damage() == "offsets/2 is missing"


@pytest.mark.parametrize("log", ["offsets", "commits"])
def test_a_checksum_that_keeps_spark_from_writing_its_next_file_is_damage(folder, log):
    (folder / log / ".3.crc").write_bytes(b"crc")

    assert CheckpointLog(folder).damage() == f"{log}/3 is missing beside its checksum"


def test_a_batch_that_was_begun_is_read_from_where_it_began(folder):
    for name in ("2", ".2.crc"):
        (folder / "commits" / name).unlink()
    log = CheckpointLog(folder)
    assert log.next_offsets("trades") == {0: 20, 1: 7}
    assert log.damage() is None


@pytest.mark.parametrize(("left", "missing"), [(1, 1), (0, 1)])
def test_spark_repeats_no_batch_before_the_newest_whatever_commits_say(folder, left, missing):
    for n in range(left, 3):
        for name in (str(n), f".{n}.crc"):
            (folder / "commits" / name).unlink()
    assert CheckpointLog(folder).damage() == f"commits/{missing} is missing"


def test_where_the_first_batch_began_must_be_readable_until_a_second_one(tmp_path):
    begin = tmp_path / "sources" / "0" / "0"
    begin.parent.mkdir(parents=True)
    begin.write_bytes(b"")
    log = CheckpointLog(tmp_path)
    assert log.damage() == "sources/0/0 cannot be read"
    begin.write_bytes(b'\0v1\n{"trades":{"0":0}}')
    assert log.damage() is None


def test_a_hole_before_the_newest_batch_is_damage(folder):
    (folder / "offsets" / "1").unlink()
    assert CheckpointLog(folder).damage() == "offsets/1 is missing or cannot be read"


def test_a_log_without_offsets_is_damaged_and_not_empty(folder):
    for file in (folder / "offsets").iterdir():
        file.unlink()
    log = CheckpointLog(folder)
    assert not log.is_empty
    assert log.damage() == "offsets/2 is missing"


def test_a_name_that_cannot_be_read_is_damage_and_one_that_is_gone_is_not(folder):
    (folder / "metadata").write_text("")
    assert CheckpointLog(folder).damage() == "metadata cannot be read"
    (folder / "metadata").unlink()
    assert CheckpointLog(folder).damage() is None


def test_a_checkpoint_that_never_ran_is_empty(tmp_path):
    log = CheckpointLog(tmp_path / "nothing")
    assert log.is_empty
    assert log.damage() is None


def label(**changes):
    return CheckpointLabel.of("ingest", Settings(), "topic-1").model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({}, []),
        ({"format": 0}, ["format 0 → 1"]),
        ({"query": "silver"}, ["query silver → ingest"]),
        ({"topic_id": "t"}, ["topic_id t → topic-1"]),
    ],
)
def test_a_label_names_what_a_checkpoint_was_not_made_for(changes, differences):
    assert label().differences(label(**changes)) == differences


def test_a_label_is_read_back_and_one_that_is_damaged_is_none(tmp_path):
    assert CheckpointLabel.read(tmp_path) is None
    label().write(tmp_path)
    assert CheckpointLabel.read(tmp_path) == label()
    (tmp_path / "tapeline.json").write_text('{"format": 1')
    assert CheckpointLabel.read(tmp_path) is None


OF_JAVA = """An error occurred while calling o1.start.
: org.apache.spark.SparkException: two at once
\tat a.b(C)"""
OF_JAVA_BELOW_PYTHON = """[STREAM_FAILED] Query x
Traceback (most recent call last):
  File y
py4j.protocol.Py4JJavaError: An error occurred
: java.X: the first
\tat a.b(C)
Caused by: java.Y: the second
\tat a.b(C)
Caused by: java.Z: the third
\t... 3 more"""
OF_PYTHON = """[STREAM_FAILED] Query x
Traceback (most recent call last):
  File y
cassandra.OperationTimedOut: errors={}

=== Streaming Query ==="""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("Kafka is away", "Kafka is away"),
        (OF_JAVA, "org.apache.spark.SparkException: two at once"),
        (OF_JAVA_BELOW_PYTHON, "java.Z: the third"),
        (OF_PYTHON, "cassandra.OperationTimedOut: errors={}"),
        ("", ""),
    ],
)
def test_a_cause_is_one_line_without_stacks(text, cause):
    assert cause_of(RuntimeError(text)) == cause


def test_a_full_disk_is_named_by_what_lies_on_it(tmp_path: Path) -> None:
    cause = "java.io.IOException: No space left on device"
    assert f"The disk of {tmp_path} is full" in full_disk(cause, [tmp_path, tmp_path / "none"])
    assert full_disk("java.io.IOException: Connection reset", [tmp_path]) == ""
