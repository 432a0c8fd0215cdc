"""Bring a Delta table of bars up to what gold says, as one new version."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
from rich.progress import Progress

from tapeline.export.content import ExportOptions, content_of
from tapeline.export.delta_table import BarsTable, delta_schema
from tapeline.export.job import ExportResult, stored_days
from tapeline.export.kept_bars import with_kept
from tapeline.export.record import Record
from tapeline.storage.cassandra_client import CassandraClient


def run_delta_export(
    client: CassandraClient, folder: Path, options: ExportOptions, progress: Progress
) -> ExportResult:
    """Commit every day of which a bar is new or not as the table has it, all days at once.

    What the table has is read and compared, so nothing but the table itself says what to write.
    A day of all symbols is held in memory.

    Raises:
        UsageError: the folder holds something else, or another program changed it meanwhile.
    """
    BarsTable.require_ours(folder)
    Record(folder, options.lasting(client.keyspace), options.splits)
    schema = delta_schema(exact=options.exact, detail=options.detail)
    table = BarsTable(folder, schema)
    now = datetime.now(timezone.utc)
    pairs = sorted(stored_days(client, options, now.date()))
    task = progress.add_task(options.kind.value, total=len(pairs))
    outcome = ExportResult()
    for day, of_day in groupby(pairs, itemgetter(0)):
        there = table.bars(day)
        fresh: dict[str, pa.Table] = {}
        is_open = False
        for _, symbol in of_day:
            progress.update(task, description=f"{day} {symbol}")
            content = content_of(client, options, symbol, day, now)
            now_there = pa.Table.from_batches(content.batches, content.schema).cast(schema)
            before = there.get(symbol, schema.empty_table())
            bars, is_fragment = with_kept(before, now_there, content, options.interval)
            if is_fragment:
                outcome.fragments.append(f"{day} {symbol}")
            if bars.num_rows and (options.overwrite or not bars.equals(before)):
                fresh[symbol] = bars
                is_open |= content.is_open
            progress.advance(task)
        if fresh:
            whole = there | fresh
            table.stage(day, pa.concat_tables(whole[symbol] for symbol in sorted(whole)))
            outcome.wrote(sum(bars.num_rows for bars in fresh.values()), is_open=is_open)
        else:
            outcome.kept += bool(there)
    table.commit()
    outcome.version = table.version()
    return outcome
