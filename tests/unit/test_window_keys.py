"""Windows as a DataFrame that the JVM makes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.consumer.window_keys import window_keys

NOON = datetime(2024, 3, 15, 12, tzinfo=timezone.utc)
EPOCH_S = 1_710_504_000  # of that noon


def test_every_window_is_there_once_whatever_its_symbol(spark: SparkSession) -> None:
    symbols = ["AAPL", "BINANCE:BTCUSDT", 'a"b', "a\\b", "a'b", "ä", "a,b", "\u2028", ""]
    keys = [(s, NOON + n * timedelta(minutes=5)) for s in symbols for n in range(40)]

    rows = window_keys(spark, keys, "bucket")

    assert rows.columns == ["symbol", "bucket"]
    found = rows.select("symbol", F.unix_seconds("bucket")).collect()
    assert sorted(map(tuple, found)) == sorted(
        (s, EPOCH_S + 300 * n) for s in symbols for n in range(40)
    )


def test_one_window_is_one_row(spark: SparkSession) -> None:
    assert window_keys(spark, [("X", NOON)], "window_start").count() == 1


def test_it_is_made_without_a_row_from_python(spark: SparkSession) -> None:
    plan = spark._jvm.PythonSQLUtils.explainString(  # type: ignore[union-attr]  # noqa: SLF001
        window_keys(spark, [("X", NOON), ("Y", NOON)], "bucket")._jdf.queryExecution(),  # noqa: SLF001
        "formatted",
    )

    assert "Range" in plan
    assert "ExistingRDD" not in plan
