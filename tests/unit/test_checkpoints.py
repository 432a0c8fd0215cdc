"""When a checkpoint may be used. Spark names the commit of batch 0 `commits/0`.

Where that batch began is in `sources/0/0`, as Spark 3.5 writes it: a zero byte, `v1`, JSON.
"""

from __future__ import annotations

import pytest

from tapeline.consumer.checkpoints import Checkpoints
from tapeline.model.errors import SchemaError


@pytest.fixture
def checkpoints(tmp_path):
    """A checkpoint as Spark leaves it when it is killed in its first batch."""
    for name in ("commits", "offsets"):
        (tmp_path / "ingest" / name).mkdir(parents=True)
    begin_at(tmp_path / "ingest", 0)
    end_at(tmp_path / "ingest", 3)
    return Checkpoints(tmp_path)


def begin_at(folder, offset):
    """Note where the first batch began, in partition 0 of two."""
    (folder / "sources" / "0").mkdir(parents=True, exist_ok=True)
    text = f'v1\n{{"trades":{{"0":{offset},"1":7}}}}'
    (folder / "sources" / "0" / "0").write_bytes(b"\0" + text.encode())


def end_at(folder, offset, partition_1=7):
    text = f'v1\n{{}}\n{{"trades":{{"0":{offset},"1":{partition_1}}}}}'
    (folder / "offsets" / "0").write_text(text)


def commit(checkpoints):
    (checkpoints.folder("ingest") / "commits" / "0").write_text("v1\n{}")


def test_a_query_killed_in_its_first_batch_goes_on(checkpoints):
    assert checkpoints.starts_over("ingest", "trades", has_progress=False) is False


def test_a_batch_that_was_written_but_not_committed_is_read_again(checkpoints):
    assert checkpoints.starts_over("ingest", "trades", has_progress=True) is True


def test_a_query_that_has_committed_goes_on(checkpoints):
    commit(checkpoints)

    assert checkpoints.starts_over("ingest", "trades", has_progress=True) is False


def test_a_committed_batch_whose_rows_are_gone_is_refused(checkpoints):
    commit(checkpoints)

    with pytest.raises(SchemaError, match="--reset-checkpoint"):
        checkpoints.starts_over("ingest", "trades", has_progress=False)


def test_a_query_stopped_before_the_first_trade_goes_on(checkpoints):
    end_at(checkpoints.folder("ingest"), 0)
    commit(checkpoints)

    assert checkpoints.starts_over("ingest", "trades", has_progress=False) is False


@pytest.mark.parametrize(("end", "partition_1"), [(1, 7), (0, 8)])
def test_one_message_of_any_partition_is_a_read(checkpoints, end, partition_1):
    end_at(checkpoints.folder("ingest"), end, partition_1)
    commit(checkpoints)

    with pytest.raises(SchemaError, match="--reset-checkpoint"):
        checkpoints.starts_over("ingest", "trades", has_progress=False)


@pytest.mark.parametrize("content", [None, b"", b"\0v1", b"\0v1\n[]", b'v1\n{"trades":7}'])
def test_without_a_known_beginning_a_topic_counts_as_read_from_its_first_message(
    checkpoints, content
):
    folder = checkpoints.folder("ingest")
    beginning = folder / "sources" / "0" / "0"
    beginning.unlink()
    if content is not None:
        beginning.write_bytes(content)
    end_at(folder, 0, 0)
    commit(checkpoints)

    assert checkpoints.starts_over("ingest", "trades", has_progress=False) is False
    end_at(folder, 0, 7)
    with pytest.raises(SchemaError):
        checkpoints.starts_over("ingest", "trades", has_progress=False)


def test_a_checkpoint_that_was_half_moved_when_its_driver_was_killed_is_told_from_a_whole_one(
    checkpoints,
):
    """Where a file system moves file by file, any of them may be left, our label gone first."""
    checkpoints.set_aside("ingest", "another version")
    assert not checkpoints.is_half_aside("ingest")
    assert checkpoints.was_set_aside("ingest")

    (checkpoints.root / "ingest.aside_begun").touch()
    checkpoints.folder("ingest").mkdir()
    (checkpoints.root / "ingest.aside" / "offsets").rename(checkpoints.folder("ingest") / "offsets")
    assert checkpoints.is_half_aside("ingest")
    checkpoints.set_aside("ingest", "setting it aside was cut off")
    assert not checkpoints.is_half_aside("ingest")
    assert not checkpoints.folder("ingest").exists()
