"""Trades on disk, split by window, so that an audit needs the memory of one part only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from tapeline.audit.engine import query
from tapeline.audit.tables import COPIES

_ROWS_OF_A_PART: Final = 250_000
_MOST_PARTS: Final = 256
_NUMBERED: Final = """
    SELECT windows.*, CAST(hash(symbol, bucket_ms) % parts AS BIGINT) AS part
    FROM windows, number ORDER BY part
"""


class Spill:
    """Files of trades in a folder; all trades of a window are in the same one.

    They are written first, closed, and read afterwards.

    Args:
        folder: where the files go; whoever made it removes it.
        rows: about how many rows are to come.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.parts = range(min(_MOST_PARTS, rows // _ROWS_OF_A_PART + 1))
        self._folder = folder
        self._writers: dict[int, Any] = {}

    def close(self) -> None:
        """End the files: they can be read now, and written no more."""
        for writer in self._writers.values():
            writer.close()

    def add(self, trades: pa.Table) -> None:
        """Write trades, columns as COPIES."""
        for part, rows in self.split(trades):
            if part not in self._writers:
                self._writers[part] = pa.ipc.new_stream(str(self._path(part)), COPIES)
            self._writers[part].write_table(rows)

    def read(self, part: int) -> pa.Table:
        """Return the trades of one part."""
        path = self._path(part)
        if not path.exists():
            return COPIES.empty_table()
        with pa.ipc.open_stream(str(path)) as reader:
            return reader.read_all()

    def split(self, windows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Yield the rows of each part that has any, by the columns that name a window."""
        numbered = query(_NUMBERED, windows=windows, number=pa.table({"parts": [len(self.parts)]}))
        rows, start = numbered.drop_columns("part"), 0
        for found in pc.value_counts(numbered["part"]).to_pylist():  # by first appearance
            yield found["values"], rows.slice(start, found["counts"])
            start += found["counts"]

    def _path(self, part: int) -> Path:
        return self._folder / f"trades-{part}.arrow"
