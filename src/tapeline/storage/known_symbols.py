"""Which symbols a keyspace knows, so that a misspelt one is told from a quiet one."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tapeline.model.bar import Interval
from tapeline.model.errors import UsageError
from tapeline.model.symbols import some_of
from tapeline.storage.audit_reads import AuditReads
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.rebuild_reads import all_states


def require_symbols(client: CassandraClient, symbols: Collection[str] | None) -> None:
    """Check that a keyspace has, or once had, a trade or a bar of each symbol.

    Args:
        client: of the keyspace.
        symbols: None is all there are, and nothing to check.

    Raises:
        UsageError: of some there is none; the message names them.
    """
    if symbols is None:
        return
    known: set[str] = set()
    unknown = set(symbols)
    for found in _known_symbols(client):
        known |= found
        unknown -= found
        if not unknown:
            return
    message = (
        f"There is no trade and no bar of {', '.join(sorted(unknown))} in keyspace "
        f"{client.keyspace}; it has {some_of(known)}."
    )
    raise UsageError(message)


def _known_symbols(client: CassandraClient) -> Iterator[set[str]]:
    """Yield the symbols that each table has, those quick to read first."""
    reads = AuditReads(client.session, client.keyspace)
    yield {symbol for symbol, _ in reads.gold_periods(Interval.ONE_HOUR)}
    yield {symbol for symbol, _ in reads.gold_periods(Interval.FIVE_MINUTES)}
    yield {symbol for symbol, _ in reads.silver_windows()}
    # Deleted by hand from both, it can still be missed by an audit and made again from bronze.
    yield {state.symbol for state in all_states(client)}
