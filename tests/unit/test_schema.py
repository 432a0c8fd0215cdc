"""Names and statements of the Cassandra schema, without a Cassandra."""

from __future__ import annotations

import hashlib
import re

import pytest
from cassandra.metadata import ColumnMetadata, KeyspaceMetadata, TableMetadata

from tapeline.model.errors import SchemaError, UsageError
from tapeline.model.names import check_keyspace_name
from tapeline.program.service_settings import CassandraSettings
from tapeline.storage.schema import (
    columns_of,
    is_older,
    require_no_loss,
    require_not_newer,
    schema_version,
    table_statements,
)

TABLES = {
    "trades_bronze": "PRIMARY KEY ((topic_id, kafka_partition, bucket), kafka_offset)",
    "trades_silver": "PRIMARY KEY ((symbol, bucket), event_time, trade_id)",
    "trades_gold_5m": "PRIMARY KEY ((symbol, period), window_start)",
    "trades_gold_1h": "PRIMARY KEY ((symbol, period), window_start)",
    "trades_gold_1m": "PRIMARY KEY ((symbol, period), window_start)",
    "bar_policy": "PRIMARY KEY ((part))",
    "trades_quarantine": "PRIMARY KEY ((topic_id, kafka_partition, bucket), kafka_offset)",
    "window_state": "PRIMARY KEY ((topic_id, kafka_partition, bucket), window_start, symbol)",
    "ingest_progress": "PRIMARY KEY ((topic_id), kafka_partition)",
    "feed_gaps": "PRIMARY KEY ((topic_id), started_at, producer_id, kind)",
    "bar_changes": "PRIMARY KEY ((bucket), logged_at, bar_interval, symbol, window_start)",
}

DIGESTS = {1: "609e1dac8e7f77a3"}
"""Of the tables' columns, by version of the schema."""


@pytest.mark.parametrize("name", ["a", "market_data", "demo", "t2", "a" * 48, "a__"])
def test_a_plain_name_is_returned_as_it_is(name):
    assert check_keyspace_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a; DROP KEYSPACE market_data",
        "a; DROP",
        "Market",
        "MARKET_DATA",
        "a" * 49,
        "1st",
        "_a",
        "a-b",
        "a.b",
        'a"b',
        "a'b",
        "a b",
        "a\n",
        " a",
        "ä",
        "a٣",
    ],
)
def test_any_other_name_is_refused_and_named(name):
    with pytest.raises(UsageError) as caught:
        check_keyspace_name(name)
    assert repr(name) in str(caught.value)


def loss(copies=(), seconds=(), **settings):
    """Return what is said of a keyspace as it stands, None when it may be followed."""
    try:
        require_no_loss(CassandraSettings(**settings), dict(copies), dict(seconds))
    except UsageError as error:
        return str(error)
    return None


def test_a_default_takes_no_copies_away_and_says_what_to_set():
    said = loss({"dc1": 3})
    assert said is not None
    assert "Keyspace market_data was given more than the defaults, and nothing has been" in said
    assert "set TAPELINE_CASSANDRA__REPLICATION_FACTOR to 3" in said


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_the_number_of_copies_that_is_set_is_followed_both_ways(factor):
    assert loss({"dc1": 3, "dc2": 2}, replication_factor=factor) is None


def test_what_is_as_the_defaults_say_or_less_is_no_loss():
    days = 86_400
    seconds = {"trades_bronze": 7 * days, "trades_silver": days, "trades_gold_5m": 99 * days}
    assert loss({"datacenter1": 1}, seconds) is None
    assert loss({}, {}) is None


@pytest.mark.parametrize(
    ("table", "seconds", "setting"),
    [
        ("trades_bronze", 8 * 86_400, "BRONZE_TTL_S"),
        ("trades_bronze", 0, "BRONZE_TTL_S"),
        ("trades_silver", 31 * 86_400, "SILVER_TTL_S"),
        ("trades_quarantine", 0, "QUARANTINE_TTL_S"),
    ],
)
def test_a_default_shortens_no_lifetime_and_a_setting_may(table, seconds, setting):
    said = loss({"dc1": 1}, {table: seconds})
    assert said is not None
    assert f"TAPELINE_CASSANDRA__{setting} to {seconds}, for" in said
    assert loss({"dc1": 1}, {table: seconds}, **{setting.lower(): 60}) is None


def table_names():
    pattern = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+) \(")
    return [found[1] for s in table_statements() if (found := pattern.match(s))]


def test_there_is_one_statement_a_table():
    assert table_names() == list(TABLES)
    assert len(table_statements()) == len(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_its_key(table):
    (statement,) = (s for s in table_statements() if f" {table} (" in s)
    assert TABLES[table] in statement


def test_statements_are_whole_and_hold_no_comment():
    for statement in table_statements():
        assert statement.count("(") == statement.count(")") > 0
        assert statement.count("'") % 2 == 0
        assert "--" not in statement
        assert ";" not in statement
        assert "\n" not in statement


def test_whoever_changes_a_table_raises_the_version():
    """Once a version is released: add a number here and in keyspace.cql, and keep the old one."""
    columns = [sorted(columns_of(s).items()) for s in table_statements()]
    digest = hashlib.sha256(repr(columns).encode()).hexdigest()[:16]

    assert max(DIGESTS) == schema_version()
    assert digest == DIGESTS[schema_version()]


def keyspace_of(comment, without=()):
    """Return what the driver tells of a keyspace with our tables."""
    known = KeyspaceMetadata(
        "market_data", durable_writes=True, strategy_class="", strategy_options={}
    )
    for statement in table_statements():
        name = re.match(r"CREATE TABLE IF NOT EXISTS (\w+)", statement)[1]
        options = {"comment": comment if name == "ingest_progress" else ""}
        table = TableMetadata("market_data", name, options=options)
        for column, kind in columns_of(statement).items():
            if (name, column) not in without:
                table.columns[column] = ColumnMetadata(table, column, kind)
        known.tables[name] = table
    return known


def test_a_keyspace_says_of_which_version_it_is_and_before_the_number_it_was_the_first():
    for comment in ("Tapeline schema 1", "", "anything"):
        known = keyspace_of(comment)
        require_not_newer(known)
        assert not is_older(known)


def test_a_keyspace_that_lacks_a_column_is_older():
    assert is_older(keyspace_of("", without={("bar_policy", "reading")}))


def test_an_older_program_leaves_a_newer_keyspace_alone_and_says_what_to_do():
    with pytest.raises(SchemaError) as caught:
        require_not_newer(keyspace_of("Tapeline schema 2"))

    assert str(caught.value) == (
        "Keyspace market_data was brought to schema 2 by a newer Tapeline, and this one knows "
        "schema 1: upgrade Tapeline here, or choose another keyspace."
    )


def test_a_newer_program_tells_an_older_keyspace(monkeypatch):
    monkeypatch.setattr("tapeline.storage.schema.schema_version", lambda: 2)

    assert is_older(keyspace_of("Tapeline schema 1"))
    assert not is_older(keyspace_of("Tapeline schema 2"))
