"""Kafka to Cassandra through Spark, on the real three, with the tape worked by hand."""

from __future__ import annotations

import math
import shutil
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tapeline.model.bar import Interval
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rollup import roll_up_bars
from tapeline.model.times import to_micros
from tapeline.model.trade import Trade, encode_trade
from tests.hand import TAPE, TRADES, hand_bars, values_of
from tests.pipeline import Pipeline

WINDOW = datetime(2024, 3, 15, 14, 30, tzinfo=timezone.utc)
WINDOW_MS = 1_710_513_000_000
RECEIVED_US = 1_710_600_000_000_000
replace = Trade._replace


def trade(trade_id: int, price: float = 10.0, ms: int = 0, sequence: int = 0) -> Trade:
    return Trade(
        "TEST", price, 1.0, WINDOW_MS + ms, None, trade_id, RECEIVED_US, sequence, "replay"
    )


def message(*args: float, **kwargs: float) -> tuple[str, bytes]:
    return "TEST", encode_trade(trade(*args, **kwargs))  # type: ignore[arg-type]


def test_every_layer_holds_the_tape_worked_by_hand(pipeline: Pipeline) -> None:
    pipeline.send_tape(TAPE)

    pipeline.ingest()
    pipeline.preview()
    intervals = (Interval.FIVE_MINUTES, Interval.ONE_HOUR)
    previews = {i: pipeline.client.stored_bars(i, list(hand_bars(i))) for i in intervals}
    result = pipeline.finalize()

    assert len(pipeline.rows("trades_bronze")) == TRADES
    assert len(pipeline.rows("trades_silver")) == TRADES
    assert pipeline.rows("trades_quarantine") == []
    for interval, stored in previews.items():
        assert {k: values_of(s.bar) for k, s in stored.items()} == hand_bars(interval)
        assert not any(s.bar.is_final for s in stored.values())
        assert all(
            s.write_time_us == to_micros(s.bar.window_start) + s.bar.trade_count
            for s in stored.values()
        )
    for interval in intervals:
        final = pipeline.bars(interval)
        assert {key: values_of(bar) for key, bar in final.items()} == hand_bars(interval)
        assert {(bar.is_final, bar.revision) for bar in final.values()} == {(True, 1)}
    assert (result.differs, result.stream_incomplete) == (0, 0)
    assert result.is_finished


# Messages that are no valid trade, and why.
BAD_MESSAGES: list[tuple[bytes | None, str]] = [
    (b"no avro", "undecodable"),
    (b"", "undecodable"),
    (None, "undecodable"),
    (encode_trade(trade(1))[:-3], "undecodable"),
    (encode_trade(trade(1))[:10] + b"\xda\xff\xff\xff\x0fTEST", "undecodable"),  # "2 GB of text"
    (b"\xc3\x01" + bytes(8) + b"of a schema that nobody knows", "unknown_schema"),
    (encode_trade(trade(2, price=-5.0)), "bad_price"),
    (encode_trade(trade(3, price=math.nan)), "bad_price"),
    (encode_trade(trade(4, price=math.inf)), "bad_price"),
    (encode_trade(replace(trade(5), volume=-1.0)), "bad_volume"),
    (encode_trade(replace(trade(6), volume=math.nan)), "bad_volume"),
    (encode_trade(replace(trade(7), volume=1e300)), "bad_volume"),
    (encode_trade(replace(trade(8), event_time_ms=4_070_908_800_000)), "bad_time"),  # 2099
    (encode_trade(replace(trade(9), event_time_ms=1_710_513_000)), "bad_time"),  # in seconds
    (encode_trade(replace(trade(10), symbol="")), "empty_symbol"),
]


def test_bronze_keeps_the_bytes_and_quarantine_the_reason(pipeline: Pipeline) -> None:
    good = encode_trade(trade(11))
    values = [value for value, _ in BAD_MESSAGES]
    pipeline.send_messages([("TEST", value) for value in [*values, good]])

    pipeline.ingest()

    bronze = {row["kafka_offset"]: row for row in pipeline.rows("trades_bronze")}
    assert [bronze[o]["message"] for o in range(len(bronze))] == [*values, good]
    quarantine = {row["kafka_offset"]: row for row in pipeline.rows("trades_quarantine")}
    assert [
        (quarantine[o]["message"], quarantine[o]["reason"]) for o in range(len(quarantine))
    ] == (BAD_MESSAGES)
    assert [row["trade_id"] for row in pipeline.rows("trades_silver")] == [11]


def test_the_lowest_rank_of_a_trade_wins_in_any_order_of_arrival(pipeline: Pipeline) -> None:
    pipeline.send_messages([message(7, sequence=5)])
    pipeline.ingest()
    pipeline.send_messages([message(7, sequence=2)])
    pipeline.ingest()
    pipeline.send_messages([message(7, sequence=9)])
    pipeline.ingest()

    (row,) = pipeline.rows("trades_silver")
    assert row["sequence"] == 2
    assert len(pipeline.rows("trades_bronze")) == 3


def test_a_lost_checkpoint_changes_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.preview()
    pipeline.finalize()
    tables = ("trades_bronze", "trades_silver", "trades_gold_5m", "trades_gold_1h")
    before = {table: pipeline.rows(table) for table in tables}

    shutil.rmtree(tmp_path / "checkpoint")
    pipeline.ingest()
    pipeline.preview()
    result = pipeline.finalize()

    assert {table: pipeline.rows(table) for table in tables} == before
    assert result.finalized == 0


def test_a_trade_after_the_bar_was_final_revises_it(pipeline: Pipeline) -> None:
    pipeline.send_messages([message(1, price=10.0)])
    pipeline.ingest()
    pipeline.now = datetime.now(timezone.utc) + timedelta(minutes=11)
    pipeline.finalize()

    pipeline.send_messages([message(2, price=12.0, ms=5)])
    pipeline.ingest()
    result = pipeline.finalize()

    bar = pipeline.bars()["TEST", WINDOW]
    assert (bar.high, bar.close, bar.trade_count) == (12.0, 12.0, 2)
    assert (bar.is_final, bar.revision) == (True, 2)
    hour = pipeline.bars(Interval.ONE_HOUR)["TEST", WINDOW.replace(minute=0)]
    assert (hour.high, hour.trade_count, hour.revision) == (12.0, 2, 2)
    assert result.revised == 2  # the five minutes and their hour


def test_a_preview_never_replaces_a_final_bar(pipeline: Pipeline) -> None:
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.finalize()
    final = pipeline.rows("trades_gold_5m")

    pipeline.preview()

    assert pipeline.rows("trades_gold_5m") == final


def test_a_preview_that_is_wrong_is_corrected_and_counted(pipeline: Pipeline) -> None:
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.preview()
    # Newer than the preview's write time, older than any finalized one's.
    pipeline.session.execute(
        "UPDATE trades_gold_5m USING TIMESTAMP %s SET high = 999.0 "
        "WHERE symbol = 'TEST' AND period = '2024-03-01' AND window_start = %s",
        (WINDOW_MS * 1000 + 1000, WINDOW),
    )
    assert pipeline.bars()["TEST", WINDOW].high == 999.0

    result = pipeline.finalize()

    assert (result.differs, result.stream_incomplete) == (1, 0)
    assert pipeline.bars()["TEST", WINDOW].high == 10.05


def test_a_bar_that_loses_its_prices_is_written_whole(pipeline: Pipeline) -> None:
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.preview()
    start = WINDOW + timedelta(minutes=5)
    pipeline.session.execute(
        "UPDATE trades_gold_5m USING TIMESTAMP %s SET open = 1.0, high = 1.0 "
        "WHERE symbol = 'TEST' AND period = '2024-03-01' AND window_start = %s",
        ((WINDOW_MS + 300_000) * 1000 + 1000, start),
    )
    assert pipeline.bars()["TEST", start].open == 1.0

    pipeline.finalize()

    bar = pipeline.bars()["TEST", start]
    assert (bar.open, bar.high, bar.volume) == (None, None, Decimal(5))


def test_an_open_window_stays_provisional_until_the_frontier_passes_it(pipeline: Pipeline) -> None:
    pipeline.now = datetime.now(timezone.utc)
    received_us = int(pipeline.now.timestamp() * 1e6)

    def at(trade_id: int, minutes: float) -> tuple[str, bytes]:
        ms = WINDOW_MS + int(minutes * 60_000)
        return "TEST", encode_trade(
            Trade("TEST", 10.0, 1.0, ms, None, trade_id, received_us, 0, "replay")
        )

    pipeline.send_messages([at(1, 0), at(2, 14.999)])
    pipeline.ingest()
    early = pipeline.finalize()
    pipeline.send_messages([at(3, 15)])
    pipeline.ingest()
    due = pipeline.finalize()

    assert early.finalized == 0
    assert due.finalized == 1
    assert not due.is_finished
    assert pipeline.bars()["TEST", WINDOW].is_final


def test_a_round_takes_all_that_is_due_in_chunks(pipeline: Pipeline) -> None:
    pipeline.send_tape(TAPE)
    pipeline.ingest()

    result = pipeline.finalize(max_windows=2)

    assert result.finalized_5m == len(hand_bars(Interval.FIVE_MINUTES))
    assert result.finalized_1h == len(hand_bars(Interval.ONE_HOUR))
    assert result.is_finished
    for interval in (Interval.FIVE_MINUTES, Interval.ONE_HOUR):
        final = pipeline.bars(interval)
        assert {key: values_of(bar) for key, bar in final.items()} == hand_bars(interval)


def test_a_stop_between_two_chunks_leaves_the_rest_to_the_next_round(pipeline: Pipeline) -> None:
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    answers = iter([False, True])

    with pipeline.finalizer(2, is_stopping=lambda: next(answers, False)) as finalizer:
        stopped = finalizer.round()
        final = {key for key, bar in pipeline.bars().items() if bar.is_final}
        following = finalizer.round()

    assert (stopped.finalized, stopped.is_finished) == (2, False)
    oldest = sorted(hand_bars(Interval.FIVE_MINUTES), key=lambda key: key[1])
    assert {start for _, start in final} == {start for _, start in oldest[:2]}
    assert (following.finalized, following.is_finished) == (6, True)


@pytest.mark.parametrize("writes_before", [3, 4, 5])
def test_who_is_killed_within_a_chunk_leaves_bars_that_are_finalized_once(
    pipeline: Pipeline, writes_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk logs its bars, writes them and marks them: the second one ends before each."""
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    write, done = pipeline.client.write, 0

    def killed(*arguments: Any) -> None:
        nonlocal done
        if done == writes_before:
            raise KilledError
        done += 1
        write(*arguments)

    monkeypatch.setattr(pipeline.client, "write", killed)
    with pytest.raises(KilledError):
        pipeline.finalize(max_windows=2)
    monkeypatch.undo()
    result = pipeline.finalize(max_windows=2)

    assert result.is_finished
    for interval in (Interval.FIVE_MINUTES, Interval.ONE_HOUR):
        final = pipeline.bars(interval)
        assert {key: values_of(bar) for key, bar in final.items()} == hand_bars(interval)
        assert {(bar.is_final, bar.revision) for bar in final.values()} == {(True, 1)}


class KilledError(Exception):
    """Ends a round where a kill would."""


def test_a_round_of_thousands_of_windows_makes_the_bars_of_their_trades(
    pipeline: Pipeline,
) -> None:
    """1,200 symbols in three windows of one hour: one to three trades each, worked out here."""
    symbols = [f"S{n:04d}" for n in range(1_200)]
    messages, expected = [], {}
    for n, symbol in enumerate(symbols):
        for window in range(3):
            prices = [10.0 + n + window + i / 4 for i in range(1 + (n + window) % 3)]
            for i, price in enumerate(prices):
                ms = WINDOW_MS + window * 300_000 + i
                trade_id = 10 * (3 * n + window) + i
                made = Trade(symbol, price, 2.0, ms, None, trade_id, RECEIVED_US, 0, "replay")
                messages.append((symbol, encode_trade(made)))
            start = WINDOW + window * timedelta(minutes=5)
            expected[symbol, start] = (
                *(prices[0], prices[-1], prices[-1]),
                *(Decimal(2 * len(prices)), len(prices)),
            )
    pipeline.send_messages(messages)
    pipeline.ingest()
    pipeline.now = datetime.now(timezone.utc) + timedelta(minutes=11)
    result = pipeline.finalize(max_windows=1_000)

    final = pipeline.client.stored_bars(Interval.FIVE_MINUTES, list(expected))
    made = {
        key: (s.bar.open, s.bar.high, s.bar.close, s.bar.volume, s.bar.trade_count)
        for key, s in final.items()
    }
    assert made == expected
    hour = WINDOW.replace(minute=0)
    hours = pipeline.client.stored_bars(Interval.ONE_HOUR, [(s, hour) for s in symbols])
    assert {s: stored.bar.trade_count for (s, _), stored in hours.items()} == {
        s: sum(count for (symbol, _), (*_, count) in expected.items() if symbol == s)
        for s in symbols
    }
    assert {s.bar.is_final for s in (*final.values(), *hours.values())} == {True}
    assert (result.finalized_5m, result.finalized_1h) == (len(expected), len(symbols))
    logged = {(row["bar_interval"], row["symbol"]) for row in pipeline.rows("bar_changes")}
    assert len(logged) == 2 * len(symbols)


def test_two_deliveries_of_the_tape_are_one_set_of_trades(pipeline: Pipeline) -> None:
    pipeline.send_tape(TAPE, producer_id="first")
    pipeline.send_tape(TAPE, producer_id="second")

    pipeline.ingest()
    pipeline.preview()
    result = pipeline.finalize()

    assert len(pipeline.rows("trades_bronze")) == 2 * TRADES
    assert len(pipeline.rows("trades_silver")) == TRADES
    final = pipeline.bars()
    assert {key: values_of(bar) for key, bar in final.items()} == hand_bars(Interval.FIVE_MINUTES)
    assert result.differs == 0


def test_bars_of_one_minute_are_kept_on_request_and_make_up_the_longer_ones(
    pipeline: Pipeline,
) -> None:
    stream = pipeline.settings.stream.model_copy(update={"store_1m": True})
    pipeline.settings = pipeline.settings.model_copy(update={"stream": stream})
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.preview()
    previews = {interval: pipeline.bars(interval) for interval in Interval}

    result = pipeline.finalize()

    for interval in (Interval.FIVE_MINUTES, Interval.ONE_HOUR):
        expected = hand_bars(interval)
        assert {k: values_of(bar) for k, bar in previews[interval].items()} == expected
        assert {k: values_of(bar) for k, bar in pipeline.bars(interval).items()} == expected
    minutes = pipeline.bars(Interval.ONE_MINUTE)
    assert len(minutes) > len(hand_bars(Interval.FIVE_MINUTES))
    assert all(bar.is_final for bar in minutes.values())
    assert all(minutes[k].same_values(b) for k, b in previews[Interval.ONE_MINUTE].items())
    five = ReadInterval.parse("5m")
    rolled = [
        bar
        for symbol in {symbol for symbol, _ in minutes}
        for bar in roll_up_bars(
            [b for (s, _), b in sorted(minutes.items()) if s == symbol],
            five,
            pipeline.now,
        )
    ]
    assert {(b.symbol, b.window_start): values_of(b) for b in rolled} == hand_bars(
        Interval.FIVE_MINUTES
    )
    assert (result.differs, result.stream_incomplete) == (0, 0)
