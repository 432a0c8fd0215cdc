"""The transformations on a real Spark, against cases worked by hand."""

from __future__ import annotations

import csv
import json
import os
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.consumer.silver_bars import collect_bars
from tapeline.consumer.transformations import (
    FIVE_MINUTES,
    apply_watermark,
    calculate_ohlcv,
    parse_trade_from_avro,
)
from tapeline.model.bar import VALUES, Bar, Interval, WindowKey
from tapeline.model.conditions import ALL, SIP, SIP_ODDLOT
from tapeline.model.rollup import combined
from tapeline.model.rules import Rules
from tapeline.model.trade import Trade, encode_trade
from tests.hand import TAPE, hand_bars, values_of

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
START_MS = 1_710_513_000_000  # 2024-03-15T14:30Z, a Friday, 10:30 in New York
RECEIVED_US = 1_710_600_000_000_000
MESSAGE_SCHEMA = "key binary, value binary, partition int, offset bigint, timestamp timestamp"
TRADE_SCHEMA = (
    "symbol string, price double, volume double, event_ms bigint, "
    "conditions array<string>, sequence int, trade_id bigint"
)
PRICES = ("open", "high", "low", "close")

slow = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def a_trade(**changes: Any) -> Trade:
    fields = {
        "symbol": "TEST",
        "price": 10.5,
        "volume": 100.0,
        "event_time_ms": START_MS,
        "conditions": ("1", "12"),
        "trade_id": -42,
        "received_at_us": RECEIVED_US,
        "sequence": 3,
        "source": "replay",
    }
    return Trade(**{**fields, **changes})


def parsed(spark: SparkSession, *values: bytes | None) -> list[dict[str, Any]]:
    rows = [
        (b"TEST", value, 1, offset, datetime(2024, 3, 17, tzinfo=timezone.utc))
        for offset, value in enumerate(values)
    ]
    messages = spark.createDataFrame(rows, MESSAGE_SCHEMA)
    return [
        row.asDict()
        for row in parse_trade_from_avro(messages)
        .withColumn("event_ms", F.unix_millis("event_time"))
        .withColumn("received_us", F.unix_micros("received_at"))
        .drop("event_time", "received_at")
        .orderBy("kafka_offset")
        .collect()
    ]


def trades_of(spark: SparkSession, rows: list[tuple[Any, ...]]) -> DataFrame:
    """Make a DataFrame of (symbol, price, volume, event_ms, conditions, sequence, trade_id)."""
    return with_times(spark.createDataFrame(rows, TRADE_SCHEMA))


def with_times(rows: DataFrame) -> DataFrame:
    return rows.select(
        "*",
        F.timestamp_millis("event_ms").alias("event_time"),
        F.timestamp_micros(F.lit(RECEIVED_US)).alias("received_at"),
    )


def bars_of(bars: DataFrame) -> dict[tuple[str, datetime], dict[str, Any]]:
    collected = bars.withColumn("us", F.unix_micros("window_start")).collect()
    names = (*PRICES, "volume", "notional", "trade_count")
    return {
        (row["symbol"], EPOCH + timedelta(microseconds=row["us"])): {n: row[n] for n in names}
        for row in collected
    }


def hours_of(parts: DataFrame) -> dict[WindowKey, Bar]:
    """Roll the hours of five-minute bars up."""
    by_hour: dict[WindowKey, list[Bar]] = defaultdict(list)
    for bar in sorted(collect_bars(parts, SIP), key=_key):
        by_hour[bar.symbol, bar.window_start.replace(minute=0)].append(bar)
    return {
        key: combined(group, key[1], key[1] + timedelta(hours=1)) for key, group in by_hour.items()
    }


def _key(bar: Bar) -> WindowKey:
    return bar.symbol, bar.window_start


def one_bar(spark: SparkSession, *trades: tuple[Any, ...], policy: Rules = SIP) -> dict[str, Any]:
    """Return the only bar of trades given as (price, volume, ms, conditions, sequence)."""
    rows = [("TEST", p, v, START_MS + ms, c, s, i) for i, (p, v, ms, c, s) in enumerate(trades)]
    bars = bars_of(calculate_ohlcv(trades_of(spark, rows), policy))
    assert len(bars) == 1
    return next(iter(bars.values()))


def hand_trades() -> list[tuple[Any, ...]]:
    """Return the tape worked by hand, with ranks as on one connection."""
    rows: list[tuple[Any, ...]] = []
    ranks: dict[tuple[str, int], int] = {}
    with TAPE.open(encoding="utf-8") as lines:
        for trade_id, row in enumerate(csv.DictReader(lines)):
            key = (row["symbol"], int(row["event_time_ms"]))
            rank = ranks[key] = ranks.get(key, -1) + 1
            conditions = row["conditions"].split("|") if row["conditions"] else None
            price, volume = float(row["price"]), float(row["volume"])
            rows.append((row["symbol"], price, volume, key[1], conditions, rank, trade_id))
    return rows


# parse_trade_from_avro


def test_a_trade_survives_the_wire(spark: SparkSession) -> None:
    (row,) = parsed(spark, encode_trade(a_trade()))

    assert row["reason"] is None
    assert (row["symbol"], row["price"], row["volume"]) == ("TEST", 10.5, 100.0)
    assert (row["event_ms"], row["received_us"]) == (START_MS, RECEIVED_US)
    assert (row["conditions"], row["trade_id"], row["sequence"]) == (["1", "12"], -42, 3)
    assert (row["source"], row["kafka_partition"], row["kafka_offset"]) == ("replay", 1, 0)


def test_no_conditions_stay_null_and_an_empty_list_stays_empty(spark: SparkSession) -> None:
    none, empty = parsed(
        spark, encode_trade(a_trade(conditions=None)), encode_trade(a_trade(conditions=()))
    )

    assert none["conditions"] is None
    assert empty["conditions"] == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "undecodable"),
        (b"", "undecodable"),
        (b'{"s":"AAPL"}', "undecodable"),
        (b"\xc3\x01" + bytes(8) + b"body", "unknown_schema"),
        (encode_trade(a_trade())[:20], "undecodable"),
        (encode_trade(a_trade(symbol="")), "empty_symbol"),
        (encode_trade(a_trade(symbol="A" * 129)), "empty_symbol"),
        (encode_trade(a_trade(received_at_us=2**63 - 1, event_time_ms=2**62)), "undecodable"),
        # Received, it says, in a far future; the broker's clock says otherwise.
        (
            encode_trade(a_trade(received_at_us=2**62, event_time_ms=1_710_720_060_001)),
            "bad_time",
        ),
        (encode_trade(a_trade(price=-1.0)), "bad_price"),
        (encode_trade(a_trade(price=0.0)), "bad_price"),
        (encode_trade(a_trade(price=float("nan"))), "bad_price"),
        (encode_trade(a_trade(price=float("inf"))), "bad_price"),
        (encode_trade(a_trade(volume=-1.0)), "bad_volume"),
        (encode_trade(a_trade(volume=float("nan"))), "bad_volume"),
        (encode_trade(a_trade(volume=1e13)), "bad_volume"),
        (encode_trade(a_trade(event_time_ms=START_MS // 1000)), "bad_time"),
        (encode_trade(a_trade(event_time_ms=4_070_908_800_000)), "bad_time"),
        (encode_trade(a_trade(event_time_ms=946_684_799_999)), "bad_time"),
        (encode_trade(a_trade(event_time_ms=RECEIVED_US // 1000 + 60_001)), "bad_time"),
    ],
)
def test_what_cannot_be_a_trade_has_a_reason(
    spark: SparkSession, value: bytes | None, reason: str
) -> None:
    bad, good = parsed(spark, value, encode_trade(a_trade()))

    assert bad["reason"] == reason
    assert bad["message"] == value
    assert good["reason"] is None


def test_a_time_a_minute_after_receipt_is_still_possible(spark: SparkSession) -> None:
    (row,) = parsed(spark, encode_trade(a_trade(event_time_ms=RECEIVED_US // 1000 + 60_000)))

    assert row["reason"] is None


# calculate_ohlcv


def test_the_tape_worked_by_hand_gives_its_bars(spark: SparkSession) -> None:
    bars = calculate_ohlcv(trades_of(spark, hand_trades()), SIP)

    assert bars_of(bars) == hand_bars(Interval.FIVE_MINUTES)


def test_odd_lots_set_prices_under_their_policy(spark: SparkSession) -> None:
    trades = [(10.0, 100.0, 0, ["1"], 0), (12.0, 5.0, 1, ["1", "12"], 0)]

    sip = one_bar(spark, *trades)
    oddlot = one_bar(spark, *trades, policy=SIP_ODDLOT)

    assert (sip["high"], sip["close"], sip["volume"]) == (10.0, 10.0, Decimal(105))
    assert (oddlot["high"], oddlot["close"], oddlot["volume"]) == (12.0, 12.0, Decimal(105))


def test_every_trade_sets_prices_under_policy_all_and_volume_keeps_its_rule(
    spark: SparkSession,
) -> None:
    trades = [(10.0, 100.0, 0, ["1"], 0), (99.0, 7.0, 1, ["16", "30"], 0)]

    bar = one_bar(spark, *trades, policy=ALL)

    assert (bar["open"], bar["high"], bar["close"]) == (10.0, 99.0, 99.0)
    assert bar["volume"] == Decimal(100)


@pytest.mark.parametrize(
    ("hour_utc", "sets_prices"),
    [
        (datetime(2024, 3, 15, 13, 25, tzinfo=timezone.utc), True),  # 09:25 in New York
        (datetime(2024, 3, 15, 13, 30, tzinfo=timezone.utc), False),  # 09:30
        (datetime(2024, 3, 15, 19, 59, tzinfo=timezone.utc), False),  # 15:59
        (datetime(2024, 3, 15, 20, 0, tzinfo=timezone.utc), True),  # 16:00
        (datetime(2024, 1, 15, 14, 30, tzinfo=timezone.utc), True),  # Martin Luther King Day
        (datetime(2024, 1, 16, 14, 29, tzinfo=timezone.utc), True),  # 09:29 in winter
        (datetime(2024, 1, 16, 14, 30, tzinfo=timezone.utc), False),  # 09:30 in winter
        (datetime(2024, 3, 16, 15, 0, tzinfo=timezone.utc), True),  # a Saturday
    ],
)
def test_form_t_sets_prices_outside_regular_hours_only(
    spark: SparkSession, hour_utc: datetime, *, sets_prices: bool
) -> None:
    event_ms = (hour_utc - EPOCH) // timedelta(milliseconds=1)
    trades = trades_of(spark, [("TEST", 10.0, 100.0, event_ms, ["1", "24"], 0, 1)])

    (bar,) = bars_of(calculate_ohlcv(trades, SIP)).values()

    expected = 10.0 if sets_prices else None
    assert [bar[name] for name in PRICES] == [expected] * 4
    assert bar["volume"] == Decimal(100)


def test_rank_decides_between_prices_of_one_millisecond(spark: SparkSession) -> None:
    bar = one_bar(
        spark,
        (10.2, 1.0, 5, None, 2),
        (10.1, 1.0, 5, None, 1),
        (10.3, 1.0, 5, None, 0),
        (10.0, 1.0, 7, None, 1),
        (10.4, 1.0, 7, None, 0),
    )

    assert (bar["open"], bar["close"]) == (10.3, 10.0)


def test_a_rank_beyond_sixteen_bits_stays_in_its_millisecond(spark: SparkSession) -> None:
    bar = one_bar(
        spark, (10.0, 1.0, 5, None, 0), (11.0, 1.0, 5, None, 99_999), (12.0, 1.0, 6, None, 0)
    )

    assert (bar["open"], bar["close"]) == (10.0, 12.0)


def test_time_decides_at_any_hour_of_the_day(spark: SparkSession) -> None:
    """Also where the highest of the bits that the milliseconds of a day need is first set."""
    turn = START_MS - START_MS % 86_400_000 + (1 << 26)  # 18:38:28.864
    times = ((12.0, turn + 1), (11.0, turn), (10.0, turn - 1))
    rows = [("TEST", price, 1.0, ms, None, 0, 0) for price, ms in times]

    (bar,) = calculate_ohlcv(trades_of(spark, rows), SIP).collect()

    assert (bar["open"], bar["close"]) == (10.0, 12.0)


@pytest.mark.parametrize("ids", [(4, 5), (5, 4)])
def test_of_equal_time_and_rank_the_id_decides(spark: SparkSession, ids: tuple[int, int]) -> None:
    rows = [("TEST", float(i), 1.0, START_MS, None, 0, i) for i in ids]

    (bar,) = calculate_ohlcv(trades_of(spark, rows), SIP).collect()

    assert (bar["open"], bar["close"]) == (4.0, 5.0)


def test_each_product_is_rounded_and_not_the_price(spark: SparkSession) -> None:
    # 1.6743e-9 * 1e9 + 1.6743e-9 * 2e9 = 1.6743 + 3.3486 = 5.0229, and that over 3e9.
    rows = [("TEST", 1.6743e-09, size, START_MS, None, 0, n) for n, size in enumerate((1e9, 2e9))]

    (bar,) = calculate_ohlcv(trades_of(spark, rows), SIP).collect()

    assert bar["notional"] == Decimal("5.0229")
    assert bar["vwap"] == pytest.approx(1.6743e-09, rel=1e-15)


def test_a_sum_that_does_not_fit_is_an_error_and_not_a_null(spark: SparkSession) -> None:
    trades = trades_of(
        spark, [("TEST", 9.9e11, 9.9e14, START_MS + i, None, 0, i) for i in range(200)]
    )

    with pytest.raises(Exception, match="the sum of notional exceeds"):
        calculate_ohlcv(trades, SIP).collect()


prices = st.integers(min_value=1, max_value=10_000).map(lambda cents: cents / 100)
volumes = st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0, 100.0, 12345.678])
hour_of_trades = st.lists(
    st.tuples(
        st.just("TEST"),
        prices,
        volumes,
        st.integers(min_value=START_MS - 1_800_000, max_value=START_MS + 1_799_999),
        st.sampled_from([None, [], ["1"], ["1", "12"], ["30"], ["16"], ["24"]]),
        st.integers(min_value=0, max_value=50),
    ),
    min_size=1,
    max_size=40,
)


def with_ids(trades: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(*trade, trade_id) for trade_id, trade in enumerate(trades)]


@pytest.mark.parametrize(
    ("symbol", "time", "session", "asset_class"),
    [
        ("AAPL", "2026-11-27T23:30", "closed", "equity"),  # 18:30 in New York, a half day
        ("VOD.L", "2026-03-10T12:00", "regular", "equity"),
        ("7203.T", "2026-03-10T03:00", "closed", "equity"),  # noon in Tokyo
        ("FHFX:EUR-USD", "2026-03-10T12:00", "continuous", "fx"),
        ("OANDA:XAU_USD", "2026-03-10T21:30", "closed", "fx"),  # 17:30 in New York, in summer
        ("NASDAQ:AAPL", "2026-03-10T12:00", "pre", "equity"),
        ("SOMEWHERE:1", "2026-03-10T12:00", "unknown", "unknown"),
    ],
)
def test_a_bar_of_spark_tells_its_session_and_asset_class(
    spark: SparkSession, symbol: str, time: str, session: str, asset_class: str
) -> None:
    instant = datetime.fromisoformat(f"{time}+00:00")
    event_ms = (instant - EPOCH) // timedelta(milliseconds=1)
    trades = trades_of(spark, [(symbol, 10.0, 100.0, event_ms, None, 0, 1)])

    (bar,) = collect_bars(calculate_ohlcv(trades, SIP), SIP)

    assert (bar.window_start, bar.session, bar.asset_class) == (instant, session, asset_class)


@slow
@given(trades=hour_of_trades)
def test_hours_rolled_up_from_parts_equal_hours_of_the_trades(
    spark: SparkSession, trades: list[tuple[Any, ...]]
) -> None:
    frame = trades_of(spark, with_ids(trades))

    parts = calculate_ohlcv(frame, SIP, FIVE_MINUTES)
    whole = calculate_ohlcv(frame, SIP, "1 hour")

    expected = {_key(bar): bar for bar in collect_bars(whole, SIP)}
    found = hours_of(parts)
    assert found.keys() == expected.keys()
    for name in set(VALUES) - {"session"}:  # an hour of several is mixed
        assert {k: getattr(b, name) for k, b in found.items()} == {
            k: getattr(b, name) for k, b in expected.items()
        }


@slow
@given(data=st.data(), trades=hour_of_trades)
def test_any_order_of_arrival_gives_the_same_bar(
    spark: SparkSession, data: st.DataObject, trades: list[tuple[Any, ...]]
) -> None:
    rows = with_ids(trades)
    shuffled = data.draw(st.permutations(rows))

    first = calculate_ohlcv(trades_of(spark, rows), SIP)
    second = calculate_ohlcv(trades_of(spark, shuffled).repartition(3), SIP)

    assert bars_of(first) == bars_of(second)


def test_hours_of_the_tape_worked_by_hand(spark: SparkSession) -> None:
    parts = calculate_ohlcv(trades_of(spark, hand_trades()), SIP)

    hours = {key: values_of(bar) for key, bar in hours_of(parts).items()}
    assert hours == hand_bars(Interval.ONE_HOUR)


# apply_watermark


def previews(
    spark: SparkSession, folder: Path, *batches: list[tuple[Any, ...]]
) -> dict[tuple[str, datetime], int]:
    """Stream batches of (event_ms, trade_id) and return each bar's last trade count."""
    names = [name.split()[0] for name in TRADE_SCHEMA.split(", ")]
    source = folder / "source"
    source.mkdir()
    for number, batch in enumerate(batches):
        lines = [
            json.dumps(dict(zip(names, ("TEST", 10.0, 1.0, ms, None, 0, trade_id), strict=True)))
            for ms, trade_id in batch
        ]
        file = source / f"{number}.json"
        file.write_text("\n".join(lines))
        os.utime(file, (number, number))  # the order in which the files are read
    counts: dict[tuple[str, datetime], int] = {}

    def remember(changed: DataFrame, _batch_id: int) -> None:
        counts.update({key: bar["trade_count"] for key, bar in bars_of(changed).items()})

    reader = spark.readStream.schema(TRADE_SCHEMA).option("maxFilesPerTrigger", 1)
    stream = with_times(reader.json(str(source)))
    bars = calculate_ohlcv(apply_watermark(stream, 600), SIP)
    query = (
        bars.writeStream.outputMode("update")
        .option("checkpointLocation", str(folder / "checkpoint"))
        .trigger(availableNow=True)
        .foreachBatch(remember)
        .start()
    )
    assert query.awaitTermination(120)
    return counts


def test_redeliveries_are_dropped_and_twins_kept(spark: SparkSession, tmp_path: Path) -> None:
    first = [(START_MS, 1), (START_MS, 2)]
    again = [(START_MS, 1), (START_MS, 2), (START_MS, 3)]

    counts = previews(spark, tmp_path, first, again)

    assert list(counts.values()) == [3]


def test_a_trade_nine_minutes_late_updates_its_bar_and_one_sixteen_late_does_not(
    spark: SparkSession, tmp_path: Path
) -> None:
    minute = 60_000
    window = ("TEST", EPOCH + timedelta(milliseconds=START_MS))
    #  14:30          14:35          14:40          14:45   14:46
    #  |--- a bar ----|                              |-------x   the watermark is at 14:36
    on_time, newest = (START_MS, 1), (START_MS + 13 * minute, 2)
    nine_late, later = (START_MS + 4 * minute, 3), (START_MS + 16 * minute, 4)
    too_late = (START_MS + 1 * minute, 5)

    counts = previews(
        spark, tmp_path, [on_time], [newest], [nine_late], [later], [(START_MS, 1)], [too_late]
    )

    assert counts[window] == 2


def test_a_batch_drops_every_redelivery(spark: SparkSession) -> None:
    rows = [("TEST", 10.0, 1.0, START_MS, None, 0, trade_id) for trade_id in (1, 2, 1, 2, 3)]

    kept = apply_watermark(trades_of(spark, rows), 600).collect()

    assert sorted(row["trade_id"] for row in kept) == [1, 2, 3]
