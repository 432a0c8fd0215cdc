"""A keyspace that an earlier or a later version has made, and what each of us does with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tapeline.model.bar import Interval
from tapeline.model.errors import SchemaError
from tapeline.storage.cassandra_client import CassandraClient
from tests.commands import fail, run
from tests.hand import TAPE, TRADES, hand_bars, values_of
from tests.pipeline import Pipeline

EARLIER = {
    "bar_policy": ["reading"],
    "ingest_progress": ["moves_since", "final_before"],
}
"""Columns of today that tables of earlier commits did not have."""


def halves(folder: Path) -> tuple[Path, Path]:
    """Return the first and the second half of the tape worked by hand, each a tape."""
    header, *lines = TAPE.read_text(encoding="utf-8").splitlines(keepends=True)
    paths = folder / "first.csv", folder / "second.csv"
    for path, some in zip(paths, (lines[:9], lines[9:]), strict=True):
        path.write_text(header + "".join(some), encoding="utf-8")
    return paths


@contextmanager
def another_client(pipeline: Pipeline) -> Iterator[CassandraClient]:
    """A client that knows the tables as they are now."""
    endpoints = pipeline.endpoints
    with CassandraClient(
        pipeline.settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port
    ) as client:
        yield client


def make_earlier(client: CassandraClient) -> None:
    """Give the tables the form that they had in earlier commits, rows and all."""
    for table, columns in EARLIER.items():
        for column in columns:
            client.session.execute(f"ALTER TABLE {client.keyspace}.{table} DROP {column}")
    client.session.execute(f"ALTER TABLE {client.keyspace}.ingest_progress WITH comment = ''")


def test_tables_of_an_earlier_version_are_completed_by_init_and_the_stream_goes_on(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    first, second = halves(tmp_path)
    pipeline.send_tape(first, "first")
    pipeline.ingest()
    pipeline.finalize()
    bars_before = pipeline.bars()
    with another_client(pipeline) as client:
        make_earlier(client)

    code, said = fail("bars", "TEST", "--keyspace", pipeline.name)
    asked = f"tapeline init --keyspace {pipeline.name}"
    run("init", "--keyspace", pipeline.name, "--topic", pipeline.name)
    pipeline.send_tape(second, "second")
    with another_client(pipeline) as client:
        pipeline.client = client
        pipeline.ingest()  # from the checkpoint of before
        while not pipeline.finalize().is_finished:
            pass
        for interval in (Interval.FIVE_MINUTES, Interval.ONE_HOUR):
            bars = pipeline.bars(interval)
            assert {key: values_of(bar) for key, bar in bars.items()} == hand_bars(interval)
            assert all(bar.is_final for bar in bars.values())

    assert code == 2
    assert f"has tables of an earlier version: complete them with `{asked}`" in " ".join(
        said.split()
    )
    assert bars_before
    assert len(pipeline.rows("trades_silver")) == TRADES
    run("audit", "--keyspace", pipeline.name, "--topic", pipeline.name)


def test_tables_of_a_later_version_are_left_alone(pipeline: Pipeline) -> None:
    with another_client(pipeline) as client:
        table = f"{pipeline.name}.ingest_progress"
        client.session.execute(f"ALTER TABLE {table} WITH comment = 'Tapeline schema 99'")

        with pytest.raises(SchemaError, match="upgrade Tapeline here"):
            client.require_schema()
        with pytest.raises(SchemaError, match="upgrade Tapeline here"):
            client.create_schema()
    for command in (("bars", "TEST"), ("init", "--topic", pipeline.name)):
        code, said = fail(*command, "--keyspace", pipeline.name)
        assert code == 2
        assert "was brought to schema 99 by a newer Tapeline" in " ".join(said.split())
