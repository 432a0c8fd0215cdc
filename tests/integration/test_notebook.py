"""The notebook of the docs, cell by cell, on a real Cassandra."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.hand import TAPE
from tests.pipeline import Pipeline

NOTEBOOK = Path(__file__).parents[2] / "docs/notebooks/read_bars.ipynb"


def cells() -> list[dict[str, Any]]:
    """Return its cells of code, in order."""
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def names(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the notebook's names stand for at its end, after the tape worked by hand."""
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.finalize()
    monkeypatch.setenv("TAPELINE_CASSANDRA__KEYSPACE", pipeline.name)
    values: dict[str, Any] = {}
    for cell in cells():
        exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), values)  # noqa: S102 - our own
    return values


def test_the_notebook_finds_what_was_worked_by_hand(names: dict[str, Any]) -> None:
    first = datetime(2024, 3, 15, 14, 30, tzinfo=timezone.utc)
    assert names["bars"].num_rows == names["written"] == 5
    assert names["first_bar"]["window_start"] == first
    assert (
        names["stored"]
        == names["added"]
        == [
            {"symbol": "COIN:TESTUSD", "volume_sum": Decimal("0.3")},
            {"symbol": "TEST", "volume_sum": Decimal(765)},
        ]
    )
    assert names["last_prices"] == {"TEST": 10.30, "COIN:TESTUSD": 50001.25}
    assert (names["first_bar"]["volume"], names["volume_of_trades"]) == (600.0, 600.0)
    assert (names["first_bar"]["high"], names["highest_print"]) == (10.05, 11.00)


def test_the_notebook_keeps_no_results_that_would_grow_old() -> None:
    assert cells()
    assert [(cell["outputs"], cell["execution_count"]) for cell in cells()] == [
        ([], None) for _ in cells()
    ]
