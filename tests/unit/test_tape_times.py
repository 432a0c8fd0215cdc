"""The unit of time of a tape: found by type or magnitude, or refused with row and value.

2024-03-15T14:30:00Z is 1,710,513,000 s; 2025-01-01T00:00:00Z is 1,735,689,600 s.
"""

from __future__ import annotations

import csv
import decimal
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapeline.model.errors import TapeError
from tapeline.simulator.tape import Tape

HALF_PAST_2 = 1_710_513_000_000
"""2024-03-15T14:30:00Z in ms."""


def written(folder: Path, *times: str) -> Path:
    """Write a CSV tape of trades of A at some times."""
    path = folder / "tape.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["event_time_ms", "symbol", "price", "volume", "conditions"])
        rows.writerows([time, "A", 1, 1, ""] for time in times)
    return path


def parquet(folder: Path, times: pa.Array) -> Path:
    path = folder / "tape.parquet"
    ones = [1.0] * len(times)
    table = {"event_time_ms": times, "symbol": ["A"] * len(times), "price": ones, "volume": ones}
    pq.write_table(pa.table(table), path)
    return path


def times_of(path: Path) -> list[int]:
    return [trade["t"] for frame in Tape(path, 100).frames(0) for trade in frame.trades]


@pytest.mark.parametrize(
    ("texts", "expected", "unit"),
    [
        # As Binance's dumps are since 2025.
        (
            ["1735689600000123", "1735689601000456"],
            [1_735_689_600_000, 1_735_689_601_000],
            "microseconds since 1970",
        ),
        (["1710513000100", "1710513000200"], [HALF_PAST_2 + 100, HALF_PAST_2 + 200], "milli"),
        (["1710513000", "1710513001"], [HALF_PAST_2, HALF_PAST_2 + 1000], "seconds since 1970"),
        # 0.29 s is 289.99… ms to a float, and 290 ms.
        (
            ["1710513000.29", "1710513000", "1710513000.2999"],
            [1_710_513_000_290, 1_710_513_000_000, 1_710_513_000_299],
            "seconds since 1970",
        ),
        (["1710513000100999999"], [1_710_513_000_100], "nanoseconds since 1970"),
        (["1710513000100.75"], [1_710_513_000_100], "milliseconds since 1970"),
        ([" 1710513000100 "], [1_710_513_000_100], "milliseconds since 1970"),
    ],
)
def test_a_number_is_read_in_the_one_unit_in_which_it_is_a_time(tmp_path, texts, expected, unit):
    path = written(tmp_path, *texts)
    assert times_of(path) == expected
    assert unit in Tape(path, 100).notes.times


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("946684800", 946_684_800_000),
        ("946684800000", 946_684_800_000),
        ("946684800000000", 946_684_800_000),
        ("946684800000000000", 946_684_800_000),
    ],
)
def test_the_first_moment_of_2000_is_the_same_in_every_unit(tmp_path, text, ms):
    assert times_of(written(tmp_path, text)) == [ms]


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2024-03-15T14:30:00Z", 0),
        ("2024-03-15T14:30:00.123Z", 123),
        ("2024-03-15 14:30:00.123999999", 123),
        ("2024-03-15 10:30:00.5-04:00", 500),
        ("2024-03-15T20:00:00.001+0530", 1),
        ("2024-03-15T15:30:00+01", 0),
        ("2024-03-15T14:30", 0),
        ("2024-03-15 14:30:00.25 UTC", 250),
    ],
)
def test_iso_text_goes_by_its_zone_and_without_one_is_utc(tmp_path, text, ms):
    path = written(tmp_path, text, "2024-03-15T14:30:01Z")
    assert times_of(path) == [HALF_PAST_2 + ms, HALF_PAST_2 + 1000]
    assert Tape(path, 100).notes.times == "ISO 8601"


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        # Two hours of one export, then another program's.
        (
            ["1710513000100", "1710513000200", "1710513000300000"],
            "row 4: '1710513000300000' is in microseconds and the rows before it are in millisec",
        ),
        (["1710513000", "1710513000.5", "1710513000100"], "row 4: '1710513000100' is in millisec"),
        (["1710513000100", "17105130"], "row 3: '17105130' is no time: a time is in seconds"),
        (["170", "1710513000100"], "row 2: '170' is no time"),
        (["0"], "row 2: '0' is no time"),
        (["-1710513000100"], "row 2: '-1710513000100' is no time"),
        (["4102444800"], "row 2: '4102444800' is no time"),  # 2100
        (["99999999999999999999"], "row 2: '99999999999999999999' is no time"),
        (["1710513000100", "2024-03-15T14:30:00Z"], "row 3: '2024-03-15T14:30:00Z' is an ISO time"),
        (["2024-03-15T14:30:00Z", "1710513000100"], "row 2: '2024-03-15T14:30:00Z' is an ISO time"),
        (["2024-03-15"], "row 2: '2024-03-15' is no time"),
        (["14:30:00"], "row 2: '14:30:00' is no time"),
        (["2024-03-15T14:30:00Z", "2024-13-15T14:30:00Z"], "row 3: '2024-13-15T14:30:00Z' is no"),
        (["1924-03-15T14:30:00Z"], "is no time of the years 2000 to 2099"),
        (["9924-03-15T14:30:00Z"], "row 2: '9924-03-15T14:30:00Z' is no time"),
        (["1.7105130001e12"], "row 2: '1.7105130001e12' is no time"),
    ],
)
def test_what_is_no_time_or_in_another_unit_is_named_by_row_and_value(tmp_path, texts, sentence):
    with pytest.raises(TapeError) as caught:
        Tape(written(tmp_path, *texts), 100)
    assert "column event_time_ms, row " in str(caught.value)
    assert sentence in str(caught.value)


def test_the_row_is_found_far_into_a_file(tmp_path):
    times = [f"2024-03-15T14:30:00.{n:06}Z" for n in range(5000)]
    times[4321] = "2024-02-30T14:30:00Z"
    with pytest.raises(TapeError, match="row 4323: '2024-02-30T14:30:00Z' is no time"):
        Tape(written(tmp_path, *times), 100)


def test_a_time_in_years_to_come_is_refused_and_one_of_the_next_hours_is_not(tmp_path):
    soon = datetime.now(timezone.utc) + timedelta(hours=2)
    assert len(times_of(written(tmp_path, f"{soon:%Y-%m-%dT%H:%M:%SZ}"))) == 1
    with pytest.raises(
        TapeError, match="row 3: '4000000000000' lies more than a day in the future"
    ):
        Tape(written(tmp_path, "1710513000100", "4000000000000"), 100)  # 2096


@pytest.mark.parametrize(
    ("unit", "value", "ms"),
    [
        ("s", 1_710_513_000, 0),
        ("ms", 1_710_513_000_100, 100),
        ("us", 1_710_513_000_100_999, 100),  # as pandas 3 and Spark write them
        ("ns", 1_710_513_000_100_999_999, 100),
    ],
)
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_a_parquet_timestamp_goes_by_its_type(tmp_path, unit, value, ms, zone):
    path = parquet(tmp_path, pa.array([value], pa.timestamp(unit, zone)))
    assert times_of(path) == [HALF_PAST_2 + ms]
    assert ("UTC" if zone is None else zone) in Tape(path, 100).notes.times


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([1_710_513_000], pa.int32()), [0]),
        (pa.array([1_710_513_000_100_500_000], pa.uint64()), [100]),
        (pa.array([1_710_513_000.29], pa.float64()), [290]),
        (pa.array([1_710_513_000_100.0], pa.float64()), [100]),
        (pa.array([decimal.Decimal("1710513000.123456")]), [123]),
        (pa.array(["1710513000100"]), [100]),
        (pa.array(["2024-03-15T14:30:00.1Z"], pa.large_string()), [100]),
        (pa.array(["2024-03-15T14:30:00.1Z"]).dictionary_encode(), [100]),
    ],
)
def test_other_columns_of_parquet_go_by_magnitude_or_as_text(tmp_path, times, expected):
    assert times_of(parquet(tmp_path, times)) == [HALF_PAST_2 + ms for ms in expected]


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        (pa.array([-2_209_161_600], pa.timestamp("s")), "row 1: '1899-12-30 00:00:00' is"),
        (pa.array([19_797], pa.date32()), "date32.*is no time of day"),
        (pa.array([True]), "is of type bool"),
        (pa.array([2**64 - 1], pa.uint64()), "row 1: '18446744073709551615' is no time"),
        (pa.array([1_710_513_000_100, 5], pa.int64()), "row 2: '5' is no time"),
        (pa.array([1_710_513_000.0, float("nan")]), "row 2: 'nan' is no time"),
        (pa.array([1_710_513_000_100, None], pa.int64()), "has 1 empty values, the first in row 2"),
    ],
)
def test_parquet_times_that_are_none_are_refused(tmp_path, times, sentence):
    with pytest.raises(TapeError, match=sentence):
        Tape(parquet(tmp_path, times), 100)


def test_the_files_order_is_kept_inside_a_millisecond(tmp_path):
    path = tmp_path / "tape.csv"
    rows = [f"17105130001009{99 - n:02},A,{n},1" for n in range(1, 90)]
    path.write_text("\n".join(["event_time_ms,symbol,price,volume", *rows]))
    (frame,) = Tape(path, 100).frames(0)
    assert {trade["t"] for trade in frame.trades} == {HALF_PAST_2 + 100}
    assert [trade["p"] for trade in frame.trades] == [float(n) for n in range(1, 90)]
