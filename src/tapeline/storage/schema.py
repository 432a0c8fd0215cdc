"""Create keyspace and tables from `schemas/cassandra/keyspace.cql`, and follow the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from cassandra.cluster import Session
from cassandra.metadata import KeyspaceMetadata

from tapeline.model.errors import SchemaError, UsageError
from tapeline.model.names import check_keyspace_name
from tapeline.model.resources import schema_text
from tapeline.program.service_settings import CassandraSettings

_LIFETIMES: Final = {
    "trades_bronze": "bronze_ttl_s",
    "trades_silver": "silver_ttl_s",
    "trades_gold_1m": "gold_ttl_s",
    "trades_gold_5m": "gold_ttl_s",
    "trades_gold_1h": "gold_ttl_s",
    "trades_quarantine": "quarantine_ttl_s",
}
"""The setting of each table's lifetime."""

PROGRESS: Final = "ingest_progress"
"""The table that every keyspace of ours has; its comment numbers the version of all tables."""
_WINDOWS: Final = "window_state"
_GAPS: Final = "feed_gaps"
_DAY_S: Final = 86_400
_OLD_COLUMN: Final = "dirty_offset"
"""What `affected_offset` was called at first: windows that wait under that name would be missed."""
_COPIES: Final = re.compile(r"'([^']+)': '(\d+)")
"""A data centre and its copies; Cassandra may write `3/1`, of which one is transient."""
_VERSION: Final = re.compile(r"Tapeline schema (\d+)")


def table_statements() -> list[str]:
    """Return the CREATE TABLE statements of keyspace.cql."""
    text = re.sub(r"--[^\n]*", "", schema_text("cassandra", "keyspace.cql"))
    statements = [" ".join(s.split()) for s in text.split(";")]
    return [s for s in statements if s.startswith("CREATE TABLE")]


def schema_version() -> int:
    """Return the version of keyspace.cql."""
    return _version_in(schema_text("cassandra", "keyspace.cql"))


def version_of(known: KeyspaceMetadata) -> int:
    """Return the version of a keyspace's tables; the first did not always say so."""
    table = known.tables.get(PROGRESS)
    return 1 if table is None else _version_in(table.options.get("comment") or "")


def _version_in(text: str) -> int:
    found = _VERSION.search(text)
    return 1 if found is None else int(found[1])


def require_not_newer(known: KeyspaceMetadata) -> None:
    """Check that a keyspace's tables are none of a newer program, whose rows say more than we know.

    Raises:
        SchemaError: they are.
    """
    theirs, ours = version_of(known), schema_version()
    if theirs > ours:
        message = (
            f"Keyspace {known.name} was brought to schema {theirs} by a newer Tapeline, and this "
            f"one knows schema {ours}: upgrade Tapeline here, or choose another keyspace."
        )
        raise SchemaError(message)


def is_older(known: KeyspaceMetadata) -> bool:
    """Return whether a keyspace's tables are of an earlier version, or lack something."""
    return version_of(known) < schema_version() or any(missing_columns(known))


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
    """Create what is missing and follow the settings by ALTER; repeatable.

    A table of an earlier version gets the columns that it lacks, and then the version's number.

    Raises:
        UsageError: a default would take copies or lifetime from a keyspace that was given other
            ones, or its tables are of a version before the first release; nothing is changed then.
        SchemaError: its tables are of a newer version; nothing is changed either.
    """
    keyspace = check_keyspace_name(settings.keyspace)
    factor, lifetimes = settings.replication_factor, table_lifetimes(settings)
    known = session.cluster.metadata.keyspaces
    if keyspace in known:
        _require_todays_names(known[keyspace])
        require_not_newer(known[keyspace])
        require_no_loss(settings, *_state_of(known[keyspace]))
    new = _replication("NetworkTopologyStrategy", {"replication_factor": factor})
    session.execute(f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {new}")
    session.set_keyspace(keyspace)
    for statement in table_statements():
        session.execute(statement)
    for table, column, kind in list(missing_columns(known[keyspace])):
        session.execute(f"ALTER TABLE {table} ADD {column} {kind}")
    if version_of(known[keyspace]) != schema_version():
        comment = f"Tapeline schema {schema_version()}"
        session.execute(f"ALTER TABLE {PROGRESS} WITH comment = '{comment}'")
    lifetimes |= _lifetimes_beside(settings)
    copies, seconds = _state_of(known[keyspace])
    if factor not in copies.values():
        # Without their names Cassandra leaves the data centres that it has as they are.
        strategy = known[keyspace].replication_strategy.name
        altered = _replication(strategy, dict.fromkeys(copies, factor))
        session.execute(f"ALTER KEYSPACE {keyspace} WITH replication = {altered}")
    for table, ttl_s in lifetimes.items():
        if seconds[table] != ttl_s:
            session.execute(f"ALTER TABLE {table} WITH default_time_to_live = {ttl_s:d}")


def _require_todays_names(known: KeyspaceMetadata) -> None:
    if _WINDOWS in known.tables and _OLD_COLUMN in known.tables[_WINDOWS].columns:
        message = (
            f"Keyspace {known.name} was made by a version before the first release, whose columns "
            f"had other names. Drop it (DROP KEYSPACE {known.name}) or choose another one with "
            "TAPELINE_CASSANDRA__KEYSPACE; the stream then reads the topic from its start."
        )
        raise UsageError(message)


def table_lifetimes(settings: CassandraSettings) -> dict[str, int]:
    """Return for how many seconds rows of each table are to live; 0 is forever."""
    return {table: getattr(settings, name) for table, name in _LIFETIMES.items()}


def _lifetimes_beside(settings: CassandraSettings) -> dict[str, int]:
    """Return the lifetimes of what is kept beside trades and bars, a day longer than these.

    A window can be finalized again as long as silver has its trades. A gap must be known as long
    as a bar can be read or made that it leaves incomplete. A lasting one is written again each day.
    """
    silver_s, gold_s = settings.silver_ttl_s, settings.gold_ttl_s
    is_one_kept = 0 in {silver_s, gold_s}
    return {
        _WINDOWS: silver_s and silver_s + _DAY_S,
        _GAPS: 0 if is_one_kept else max(silver_s, gold_s) + _DAY_S,
    }


def require_no_loss(
    settings: CassandraSettings, copies: Mapping[str, int], seconds: Mapping[str, int]
) -> None:
    """Check that no default takes something away from a keyspace as it stands.

    What was set is followed, upwards and downwards.

    Args:
        settings: those to be applied.
        copies: of each row, by data centre.
        seconds: the lifetimes of the tables that are there; 0 is forever.

    Raises:
        UsageError: the message says what to set, to keep what there is or to change it.
    """
    is_set = settings.model_fields_set
    losses: dict[str, str] = {}
    most, factor = max(copies.values(), default=0), settings.replication_factor
    if "replication_factor" not in is_set and factor not in copies.values() and factor < most:
        losses["replication_factor"] = f"{most}, for there are so many copies of each row"
    for table, ttl_s in table_lifetimes(settings).items():
        name, stored_s = _LIFETIMES[table], seconds.get(table, ttl_s)
        if name not in is_set and ttl_s > 0 and (stored_s > ttl_s or stored_s == 0):
            losses[name] = f"{stored_s}, for so many seconds {table} keeps its rows (0: forever)"
    if losses:
        wanted = "; ".join(
            f"TAPELINE_CASSANDRA__{name.upper()} to {why}, and the default is "
            f"{getattr(settings, name)}"
            for name, why in losses.items()
        )
        message = (
            f"Keyspace {settings.keyspace} was given more than the defaults, and nothing has been "
            f"changed. To keep it as it is, set {wanted}. Set another value to change it."
        )
        raise UsageError(message)


def _state_of(keyspace: KeyspaceMetadata) -> tuple[dict[str, int], dict[str, int]]:
    """Return the copies of each row by data centre, and the lifetimes of our tables in seconds."""
    options = keyspace.replication_strategy.export_for_schema()
    copies = dict(_COPIES.findall(options.partition(",")[2]))
    seconds = {
        table: int(keyspace.tables[table].options["default_time_to_live"])
        for table in (*_LIFETIMES, _WINDOWS, _GAPS)
        if table in keyspace.tables
    }
    return {name: int(count) for name, count in copies.items()}, seconds


def _replication(strategy: str, copies: Mapping[str, int]) -> str:
    parts = [
        f"'class': '{strategy}'",
        *(f"'{name}': '{count:d}'" for name, count in copies.items()),
    ]
    return f"{{{', '.join(parts)}}}"


def drop_keyspace(session: Session, keyspace: str) -> None:
    """Drop a keyspace with all that is in it."""
    session.execute(f"DROP KEYSPACE IF EXISTS {check_keyspace_name(keyspace)}")
