"""When a checkpoint may be used. Spark names the commit of batch 0 `commits/0`."""

from __future__ import annotations

import pytest

from tapeline.consumer.checkpoints import Checkpoints
from tapeline.errors import SchemaError


@pytest.fixture
def checkpoints(tmp_path):
    """A checkpoint as Spark leaves it when it is killed in its first batch."""
    for name in ("commits", "offsets"):
        (tmp_path / "ingest" / name).mkdir(parents=True)
    (tmp_path / "ingest" / "offsets" / "0").write_text("v1\n{}\n")
    return Checkpoints(tmp_path)


def commit(checkpoints):
    (checkpoints.folder("ingest") / "commits" / "0").write_text("v1\n{}")


def test_a_query_killed_in_its_first_batch_goes_on(checkpoints):
    assert checkpoints.begins_anew("ingest", has_progress=False) is False


def test_a_batch_that_was_written_but_not_committed_is_read_again(checkpoints):
    assert checkpoints.begins_anew("ingest", has_progress=True) is True


def test_a_query_that_has_committed_goes_on(checkpoints):
    commit(checkpoints)

    assert checkpoints.begins_anew("ingest", has_progress=True) is False


def test_a_committed_batch_whose_rows_are_gone_is_refused(checkpoints):
    commit(checkpoints)

    with pytest.raises(SchemaError, match="--reset-checkpoint"):
        checkpoints.begins_anew("ingest", has_progress=False)
