"""Trades on disk, split by window, so that an audit needs the memory of one part only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa

from tapeline.audit.frames import TRADES, WINDOW, trades_frame

_ROWS_OF_A_PART: Final = 250_000
_MOST_PARTS: Final = 256


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

    def add(self, trades: pl.DataFrame) -> None:
        """Write trades, columns as TRADES."""
        numbered = trades.with_columns(part=self.part_of())
        for rows in numbered.partition_by("part"):
            part = rows["part"][0]
            table = rows.drop("part").to_arrow(compat_level=pl.CompatLevel.oldest())
            if part not in self._writers:
                self._writers[part] = pa.ipc.new_stream(str(self._path(part)), table.schema)
            self._writers[part].write_table(table)

    def read(self, part: int) -> pl.DataFrame:
        """Return the trades of one part."""
        path = self._path(part)
        if not path.exists():
            return trades_frame([])
        with pa.ipc.open_stream(str(path)) as reader:
            return pl.DataFrame(pl.from_arrow(reader.read_all()), TRADES)

    def part_of(self) -> pl.Expr:
        """Return the part that a window belongs to, from its columns."""
        return (pl.struct(WINDOW).hash() % len(self.parts)).cast(pl.Int64)

    def _path(self, part: int) -> Path:
        return self._folder / f"trades-{part}.arrow"
