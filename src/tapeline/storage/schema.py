"""Create keyspace and tables from `schemas/cassandra/keyspace.cql`, and follow the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from cassandra.cluster import Session
from cassandra.metadata import KeyspaceMetadata

from tapeline.errors import UsageError
from tapeline.resources import schema_text
from tapeline.settings import CassandraSettings

_DAY_S: Final = 86_400
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")


def check_keyspace_name(name: str) -> str:
    """Return a keyspace name that is safe to stand in CQL, where it cannot be bound.

    Raises:
        UsageError: it is not lower-case letters, digits and `_`, at most 48, a letter first.
    """
    if not _NAME.fullmatch(name):
        message = (
            f"{name!r} is no keyspace name: use lower-case letters, digits and _, "
            "at most 48, a letter first."
        )
        raise UsageError(message)
    return name


def table_statements() -> list[str]:
    """Return the CREATE TABLE statements of keyspace.cql."""
    text = re.sub(r"--[^\n]*", "", schema_text("cassandra", "keyspace.cql"))
    statements = [" ".join(s.split()) for s in text.split(";")]
    return [s for s in statements if s.startswith("CREATE TABLE")]


def columns_of(statement: str) -> dict[str, str]:
    """Return the name and type of each column of a CREATE TABLE statement of ours."""
    body = statement[statement.index("(") + 1 : statement.index(" PRIMARY KEY")]
    # A comma inside <> or () parts no columns; ours has types such as frozen<list<text>> only.
    return dict(part.split(None, 1) for part in body.strip(" ,").split(", "))


def missing_columns(known: KeyspaceMetadata) -> Iterator[tuple[str, str, str]]:
    """Yield table, column and type of what a keyspace lacks; all of it for a missing table."""
    for statement in table_statements():
        table = statement.removeprefix("CREATE TABLE IF NOT EXISTS ").split()[0]
        present = known.tables[table].columns if table in known.tables else {}
        for column, kind in columns_of(statement).items():
            if column not in present:
                yield table, column, kind


def apply_schema(session: Session, settings: CassandraSettings) -> None:
    """Create what is missing and ALTER replication and TTL to the settings; repeatable.

    A table of an earlier version gets the columns that it lacks.
    """
    keyspace = check_keyspace_name(settings.keyspace)
    replication = (
        "{'class': 'NetworkTopologyStrategy', "
        f"'replication_factor': {settings.replication_factor:d}}}"
    )
    known = session.cluster.metadata.keyspaces
    session.execute(f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}")
    session.set_keyspace(keyspace)
    for statement in table_statements():
        session.execute(statement)
    current = known[keyspace]
    for table, column, kind in list(missing_columns(current)):
        session.execute(f"ALTER TABLE {table} ADD {column} {kind}")
    if (
        current.replication_strategy.export_for_schema().find(f"'{settings.replication_factor:d}'")
        < 0
    ):
        session.execute(f"ALTER KEYSPACE {keyspace} WITH replication = {replication}")
    lifetimes = {
        "trades_bronze": settings.bronze_ttl_s,
        "trades_silver": settings.silver_ttl_s,
        "trades_gold_1m": settings.gold_ttl_s,
        "trades_gold_5m": settings.gold_ttl_s,
        "trades_gold_1h": settings.gold_ttl_s,
        "trades_quarantine": settings.quarantine_ttl_s,
        # A window can be settled again as long as silver has its trades; a day longer, so that
        # the state outlives them.
        "window_state": settings.silver_ttl_s and settings.silver_ttl_s + _DAY_S,
    }
    for table, ttl_s in lifetimes.items():
        if current.tables[table].options["default_time_to_live"] != ttl_s:
            session.execute(f"ALTER TABLE {table} WITH default_time_to_live = {ttl_s:d}")


def drop_keyspace(session: Session, keyspace: str) -> None:
    """Drop a keyspace with all that is in it."""
    session.execute(f"DROP KEYSPACE IF EXISTS {check_keyspace_name(keyspace)}")
