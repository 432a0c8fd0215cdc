"""How rows are put into batches, and values into bytes, as the driver itself would."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from cassandra.cqltypes import lookup_casstype
from cassandra.protocol import ColumnMetadata
from cassandra.query import UNSET_VALUE, BatchStatement, BoundStatement, PreparedStatement
from hypothesis import given
from hypothesis import strategies as st

from tapeline.storage.connection import in_batches
from tapeline.storage.packing import Packer

COLUMNS = {
    "partition": "UTF8Type",
    "row": "LongType",
    "price": "DoubleType",
    "volume": "DecimalType",
    "is_final": "BooleanType",
    "revision": "Int32Type",
    "at": "DateType",
    "day": "SimpleDateType",
}
NOON = datetime(2024, 3, 15, 12, tzinfo=timezone.utc)


def prepared() -> PreparedStatement:
    columns = [ColumnMetadata("k", "t", n, lookup_casstype(t)) for n, t in COLUMNS.items()]
    statement = PreparedStatement(columns, b"id", [0], "INSERT", "k", 5, None, None)
    statement.is_idempotent = True
    return statement


STATEMENT = prepared()
PACKER = Packer(STATEMENT, 5)


def row(partition: str, number: int) -> BoundStatement:
    return PACKER.bind((partition, number, 1.5, Decimal("0.1"), True, 1, NOON, NOON.date()))


def sizes(counts: dict[str, int], *, mixes: bool) -> list[dict[str, int]]:
    """Return how many rows of each partition are in each batch."""
    rows = [row(name, n) for name, count in counts.items() for n in range(count)]
    found = []
    for statement in in_batches(rows, mixes=mixes):
        assert statement.is_idempotent
        assert statement.routing_key is not None
        values = (
            [v for _, _, v in statement._statements_and_parameters]  # noqa: SLF001 - the driver shows them nowhere
            if isinstance(statement, BatchStatement)
            else [statement.values]
        )
        found.append(dict(Counter(v[0].decode() for v in values)))
    return found


def test_rows_of_one_partition_go_together_a_hundred_at_most():
    assert sizes({"a": 250, "b": 1}, mixes=False) == [{"a": 100}, {"a": 100}, {"a": 50}, {"b": 1}]


def test_rows_of_several_partitions_go_together_only_where_each_node_has_all_of_them():
    one_each = dict.fromkeys("abcdefgh", 1)
    assert sizes(one_each, mixes=False) == [{name: 1} for name in "abcdefgh"]
    assert sizes(one_each, mixes=True) == [dict.fromkeys("abcdef", 1), dict.fromkeys("gh", 1)]


def test_mixed_batches_stay_small_beside_large_ones():
    counts = {"a": 5, "b": 120, "c": 4}
    assert sizes(counts, mixes=True) == [{"b": 100}, {"b": 20}, {"a": 5, "c": 1}, {"c": 3}]


TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001 - made aware
    lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)
)


@given(
    st.text(max_size=8),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.integers(-(1 << 31), (1 << 31) - 1),
    TIMES,
    st.dates(date(1970, 1, 1)),
    st.sampled_from([timezone.utc, timezone(timedelta(hours=-5)), None]),
)
def test_values_become_the_bytes_that_the_driver_would_send(
    text, number, price, volume, flag, revision, time, day, zone
):
    values = (text, number, price, volume, flag, revision, time.replace(tzinfo=zone), day)

    assert PACKER.bind(values).values == STATEMENT.bind(values).values


def test_nulls_and_what_is_left_as_it_is_are_told_apart():
    values = ("a", None, UNSET_VALUE, None, None, None, None, None)

    assert PACKER.bind(values).values == STATEMENT.bind(values).values


def test_a_value_too_few_is_refused():
    with pytest.raises(ValueError, match="zip"):
        PACKER.bind(("a", 1))
