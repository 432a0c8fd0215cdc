"""Names and statements of the Cassandra schema, without a Cassandra."""

from __future__ import annotations

import re

import pytest

from tapeline.errors import UsageError
from tapeline.storage.schema import check_keyspace_name, table_statements

TABLES = {
    "trades_bronze": "PRIMARY KEY ((topic_id, kafka_partition, bucket), kafka_offset)",
    "trades_silver": "PRIMARY KEY ((symbol, bucket), event_time, trade_id)",
    "trades_gold_5m": "PRIMARY KEY ((symbol, period), window_start)",
    "trades_gold_1h": "PRIMARY KEY ((symbol, period), window_start)",
    "trades_gold_1m": "PRIMARY KEY ((symbol, period), window_start)",
    "trades_quarantine": "PRIMARY KEY ((topic_id, kafka_partition, bucket), kafka_offset)",
    "window_state": "PRIMARY KEY ((topic_id, kafka_partition, bucket), window_start, symbol)",
    "ingest_progress": "PRIMARY KEY ((topic_id), kafka_partition)",
    "feed_gaps": "PRIMARY KEY ((topic_id), started_at, producer_id, kind)",
    "bar_changes": "PRIMARY KEY ((bucket), logged_at, bar_interval, symbol, window_start)",
}


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
