"""Finalizing and rebuilding start no Python workers, whatever `python3` is there, on real Spark."""

from __future__ import annotations

import pytest
from py4j.protocol import Py4JJavaError
from rich.console import Console

from tapeline.model.bar import Interval
from tapeline.rebuild.job import Rebuild, RebuildLayer, RebuildOptions
from tapeline.rebuild.progress import Progress, ProgressFile
from tapeline.rebuild.selection import Selection
from tests.hand import TAPE, TRADES, hand_bars, values_of
from tests.pipeline import Pipeline


def test_a_python_that_does_not_exist_changes_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What PYSPARK_PYTHON sets when a session begins.
    monkeypatch.setattr(pipeline.spark.sparkContext, "pythonExec", "/nonexistent/python")
    with pytest.raises(Py4JJavaError, match="nonexistent"):
        pipeline.spark.sparkContext.parallelize([1]).map(lambda n: n).collect()

    pipeline.send_tape(TAPE)
    pipeline.ingest()
    result = pipeline.finalize()  # every bar from silver
    pipeline.session.execute("TRUNCATE trades_silver")
    pipeline.session.execute("TRUNCATE trades_gold_5m")
    rebuild(pipeline)

    assert result.is_finished
    assert result.finalized_5m == 5
    for interval in (Interval.FIVE_MINUTES, Interval.ONE_HOUR):
        bars = pipeline.bars(interval)
        assert {key: values_of(bar) for key, bar in bars.items()} == hand_bars(interval)
        assert all(bar.is_final for bar in bars.values())
    assert len(pipeline.rows("trades_silver")) == TRADES


def rebuild(pipeline: Pipeline) -> None:
    """Make silver from bronze and gold from silver, as the command does."""
    options = RebuildOptions(
        RebuildLayer.SILVER, Selection(), allow_shrink=False, restart=False, any_policy=True
    )
    Rebuild(
        pipeline.spark,
        pipeline.client,
        pipeline.settings,
        options,
        lambda _bar, _stored: True,
        ProgressFile(pipeline.folder / "progress.json"),
        Progress(started_at=pipeline.now),
        Console(quiet=True),
    ).run()
