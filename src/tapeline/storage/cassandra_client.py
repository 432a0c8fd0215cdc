"""The Cassandra client: a keyspace with all its tables, each of which has a file of its own.

Times are UTC; the driver hands out and takes naive datetimes, which become aware ones here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Self

from tapeline.model.bar import Interval
from tapeline.model.errors import SchemaError, UsageError
from tapeline.model.symbols import some_of
from tapeline.storage.access import rights_explained
from tapeline.storage.changes import ChangeTable
from tapeline.storage.connection import RepeatingPolicy
from tapeline.storage.gaps import GapTable
from tapeline.storage.messages import MessageTables
from tapeline.storage.policy import PolicyTable
from tapeline.storage.schema import (
    PROGRESS,
    apply_schema,
    drop_keyspace,
    is_older,
    require_not_newer,
)
from tapeline.storage.trades import TradeTable

__all__ = ["CassandraClient", "RepeatingPolicy"]


class CassandraClient(ChangeTable, GapTable, MessageTables, PolicyTable, TradeTable):
    """Reads and writes of one keyspace; a `with` statement closes it at its end.

    Requests raise the driver's errors, and AccessError where our user lacks a right; connecting
    raises ServiceUnavailableError.
    """

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self.close()

    def create_schema(self) -> None:
        """Create or alter the keyspace and its tables; harmless when they are right.

        Raises:
            UsageError: a default would take something away; nothing is changed.
            SchemaError: a newer Tapeline has made it; nothing is changed.
        """
        with rights_explained():
            apply_schema(self._session, self._settings)

    def drop_schema(self) -> None:
        """Drop the keyspace with everything in it.

        Raises:
            SchemaError: it holds tables that are not Tapeline's.
        """
        known = self._cluster.metadata.keyspaces.get(self._keyspace)
        if known is not None and known.tables and PROGRESS not in known.tables:
            message = f"Keyspace {self._keyspace} is not Tapeline's: it is not emptied."
            raise SchemaError(message)
        with rights_explained():
            drop_keyspace(self._session, self._keyspace)

    def require_schema(self) -> None:
        """Check that the tables are there, and of our version.

        Raises:
            SchemaError: they are not.
        """
        known = self._cluster.metadata.keyspaces.get(self._keyspace)
        if known is None or PROGRESS not in known.tables:
            lacking = "has no tables of Tapeline: create them"
        else:
            require_not_newer(known)
            if not is_older(known):
                return
            lacking = "has tables of an earlier version: complete them"
        init = f"tapeline init --keyspace {self._keyspace}"
        message = f"Keyspace {self._keyspace} {lacking} with `{init}`."
        raise SchemaError(message)

    def require_symbols(self, symbols: Collection[str] | None) -> None:
        """Check that the keyspace has, or once had, a trade or a bar of each symbol.

        So a misspelt one is told from a quiet one.

        Args:
            symbols: None is all there are, and nothing to check.

        Raises:
            UsageError: of some there is none; the message names them.
        """
        if symbols is None:
            return
        known: set[str] = set()
        for found in self._known_symbols():
            known |= found
            if known.issuperset(symbols):
                return
        message = (
            f"There is no trade and no bar of {', '.join(sorted(set(symbols) - known))} in "
            f"keyspace {self._keyspace}; it has {some_of(known)}."
        )
        raise UsageError(message)

    def lifetimes(self) -> dict[str, timedelta]:
        """Return how long each table keeps its rows; 0 is forever."""
        tables = self._cluster.metadata.keyspaces[self._keyspace].tables
        return {
            name: timedelta(seconds=table.options["default_time_to_live"])
            for name, table in tables.items()
        }

    def _known_symbols(self) -> Iterator[set[str]]:
        """Yield the symbols that each table has, those quick to read first."""
        for interval in (Interval.ONE_HOUR, Interval.FIVE_MINUTES):
            yield {symbol for symbol, _ in self.gold_periods(interval)}
        yield {symbol for symbol, _ in self.silver_windows()}
        # Deleted by hand from both, it can still be missed by an audit and made again from bronze.
        yield {state.symbol for state in self.all_states()}
