"""DuckDB: asks Arrow tables in SQL, in this process, and stores nothing."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from typing import Final

import duckdb
import pyarrow as pa

_SETTINGS: Final[dict[str, str | bool | int]] = {
    # All that is asked for is in the package: nothing is to be looked for on the network.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # A name in a query is one of the given tables, never a variable of the caller.
    "python_enable_replacements": False,
    "memory_limit": "1GB",
    # A table here has 100,000 rows or so: sharing that out costs more than it saves.
    "threads": 1,
}


def query(sql: str, **tables: pa.Table) -> pa.Table:
    """Return the rows of a query over tables, in any order unless it names one.

    Args:
        sql: the query, a constant; it calls tables by their names. Values come in tables too.
        tables: what it reads.
    """
    engine = _engine()
    for name, table in tables.items():
        engine.register(name, table)
    try:
        return engine.sql(sql).to_arrow_table()
    finally:
        for name in tables:
            engine.unregister(name)


@lru_cache
def _engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={**_SETTINGS, "temp_directory": tempfile.gettempdir()})
