"""The Delta table of an export of bars: its newest version, and the days that wait for the next."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from tapeline.export.files import ExportFormat, write_file
from tapeline.export.record import RECORD_NAME
from tapeline.model.errors import UsageError
from tapeline.read.bars import bars_schema

_LOG_NAME: Final = "_delta_log"
_STAGED_NAME: Final = ".tapeline-export.staged"
"""Hidden, in the folder of the export: files of days that no version has yet."""
_DAY: Final = "date"
_ORDER: Final = [("symbol", "ascending"), ("window_start", "ascending")]
_CONFIGURATION: Final = {"delta.enableExpiredLogCleanup": "false"}
"""Else Delta forgets versions after thirty days."""


def delta_schema(*, exact: bool, detail: bool) -> pa.Schema:
    """Return the columns of `bars_schema` with times in microseconds, the only unit of Delta."""
    fields = bars_schema(exact=exact, detail=detail)
    micros = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [(f.name, micros if pa.types.is_timestamp(f.type) else f.type) for f in fields]
    )


class BarsTable:
    """A Delta table, partitioned by the UTC day of `window_start`; a day is one file of it.

    The files of a new version are staged beside the table. Only the commit, the appearance of one
    file in Delta's log, makes all of them the newest version at once, in place of the earlier
    files of their days, which earlier versions go on naming. A kill before it leaves the table
    as it was; between the move of the files and the commit it leaves files that no version names,
    which Delta's `vacuum` deletes.

    Args:
        folder: of the table, which the first commit makes.
        schema: of its bars, without the column `date`.

    Raises:
        UsageError: the folder holds another table, or one that cannot be read.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder = folder
        self._schema = schema
        self._whole_schema = schema.append(pa.field(_DAY, pa.date32()))
        self._staged = folder / _STAGED_NAME
        self._rows: dict[date, int] = {}
        shutil.rmtree(self._staged, ignore_errors=True)
        self._table = self._opened()

    @staticmethod
    def require_ours(folder: Path) -> None:
        """Refuse a folder with a Delta table that no export wrote, before anything is written.

        Raises:
            UsageError: it has one.
        """
        if (folder / _LOG_NAME).exists() and not (folder / RECORD_NAME).exists():
            message = f"{folder} has a Delta table that no export of ours wrote: choose another."
            raise UsageError(message)

    def version(self) -> int | None:
        """Return the number of the newest version; None before the first."""
        return None if self._table is None else self._table.version()

    def bars(self, day: date) -> dict[str, pa.Table]:
        """Return a day of the newest version: the bars of each symbol, in order of time."""
        if self._table is None:
            return {}
        dataset = self._table.to_pyarrow_dataset(file_pruning_predicate=[(_DAY, "=", str(day))])
        read = dataset.to_table(self._schema.names, filter=pc.field(_DAY) == day)
        in_order = read.cast(self._schema).sort_by(_ORDER)
        found, start = {}, 0
        for run in in_order["symbol"].value_counts().to_pylist():
            found[run["values"]] = in_order.slice(start, run["counts"])
            start += run["counts"]
        return found

    def stage(self, day: date, bars: pa.Table) -> None:
        """Write all bars of a day for the next version, in place of what the newest one has."""
        batches = bars.combine_chunks().to_batches()  # one batch, so that a row group is no symbol
        path = self._staged / f"{day}.parquet"
        self._rows[day] = write_file(path, self._schema, batches, ExportFormat.PARQUET)

    def commit(self) -> None:
        """Make what is staged the newest version; nothing if nothing is.

        Raises:
            UsageError: another program has changed the same days meanwhile.
        """
        if not self._rows:
            return
        added = [self._moved(day, rows) for day, rows in self._rows.items()]
        try:
            if self._table is None:
                create_table_with_add_actions(
                    str(self._folder.resolve()),
                    Schema.from_arrow(self._whole_schema),
                    added,
                    partition_by=[_DAY],
                    configuration=_CONFIGURATION,
                )
            else:
                self._table.create_write_transaction(
                    [*added],
                    "overwrite",
                    self._whole_schema,
                    [_DAY],
                    [(_DAY, "in", [str(day) for day in self._rows])],
                )
        except CommitFailedError as error:
            message = f"Another program has changed {self._folder} meanwhile: run it again."
            raise UsageError(message) from error
        self._rows = {}
        self._table = self._opened()

    def _moved(self, day: date, rows: int) -> AddAction:
        """Move the file of a day to where no file has been, since earlier versions have theirs."""
        name = f"{_DAY}={day}/{uuid4()}.parquet"
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        (self._staged / f"{day}.parquet").replace(path)
        status = path.stat()
        return AddAction(
            name,
            status.st_size,
            {_DAY: str(day)},
            int(status.st_mtime * 1000),
            data_change=True,
            stats=orjson.dumps({"numRecords": rows}).decode(),
        )

    def _opened(self) -> DeltaTable | None:
        if not (self._folder / _LOG_NAME).exists():
            return None
        try:
            table = DeltaTable(self._folder)
        except DeltaError as error:
            message = f"The Delta table in {self._folder} cannot be read ({error}): export anew."
            raise UsageError(message) from error
        if table.schema() != Schema.from_arrow(self._whole_schema):
            message = f"The table in {self._folder} has other columns: choose another folder."
            raise UsageError(message)
        return table
