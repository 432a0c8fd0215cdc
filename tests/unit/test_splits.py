"""Splits: their file, and bars adjusted for them, worked out by hand."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import pytest

from tapeline.cli.export import export
from tapeline.export.content import Kind
from tapeline.model.errors import UsageError
from tapeline.model.sessions import day_begins
from tapeline.model.splits import NO_SPLITS, Split, Splits, adjusted
from tapeline.program.split_file import read_splits
from tests.sample import START, a_bar

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(timezone.utc)


def write(folder, *lines: str, head: str = "symbol,effective,factor"):
    path = folder / "splits.csv"
    path.write_text("\n".join([head, *lines, ""]), encoding="utf-8")
    return path


def test_a_bar_before_a_split_of_four_to_one():
    """100 shares at 271.40 are 400 at 67.85: the money stays."""
    bar = a_bar(
        open=271.4,
        high=272.0,
        low=270.8,
        close=271.6,
        volume=Decimal(100),
        notional=Decimal(27140),
        vwap=271.4,
        unpriced_volume=Decimal("0.5"),
    )
    split = adjusted(bar, Fraction(4))
    assert (split.open, split.high, split.low, split.close) == (67.85, 68.0, 67.7, 67.9)
    assert (split.volume, split.unpriced_volume, split.vwap) == (400, 2, 67.85)
    assert (split.notional, split.trade_count, split.unpriced_count) == (27140, 4, 1)


def test_three_shares_become_one_and_volumes_are_rounded_to_ten_places():
    bar = adjusted(a_bar(open=0.1, volume=Decimal(10), close=None), Fraction(1, 3))
    assert bar.volume == Decimal("3.3333333333")
    assert bar.open == 0.3  # and not 0.1 * 3 in doubles
    assert bar.close is None


def test_a_bar_without_volume_has_no_vwap():
    assert adjusted(a_bar(volume=Decimal(0), vwap=None), Fraction(4)).vwap is None


def test_factors_before_between_and_after_two_splits():
    first, second = START, START + timedelta(days=100)
    splits = Splits.of([Split("AAPL", second, Fraction(1, 10)), Split("AAPL", first, Fraction(7))])
    moments = [first - timedelta.resolution, first, second - timedelta.resolution, second]
    assert [splits.factor_at("AAPL", m) for m in moments] == [
        Fraction(7, 10),
        *[Fraction(1, 10)] * 2,
        1,
    ]
    assert splits.factor_at("MSFT", first) == 1
    assert NO_SPLITS.factor_at("AAPL", first) == 1


def test_a_file_of_splits(tmp_path):
    path = write(
        tmp_path,
        "AAPL,2020-08-31,4",
        "XYZ, 2024-01-10T14:00+01:00 ,1:10",
        "LSE:VOD,2026-11-20,1.5",
        "BINANCE:BTCUSDT,2024-06-01,3/2",
    )
    splits = read_splits(path, NOW)
    # New York's day ends at 20:00, which is midnight UTC in summer; London's at its midnight.
    assert splits.times_of == {
        "AAPL": (at("2020-08-31T00:00Z"),),
        "XYZ": (at("2024-01-10T13:00Z"),),
        "LSE:VOD": (at("2026-11-20T00:00Z"),),
        "BINANCE:BTCUSDT": (at("2024-06-01T00:00Z"),),
    }
    assert splits.factor_at("XYZ", at("2024-01-10T12:59Z")) == Fraction(1, 10)
    assert splits.factor_at("LSE:VOD", at("2026-11-19T23:00Z")) == Fraction(3, 2)


def test_a_split_to_come_changes_nothing_yet(tmp_path):
    path = write(tmp_path, "AAPL,2026-11-20,4", "AAPL,2026-11-23,2")
    splits = read_splits(path, NOW)
    assert splits.factor_at("AAPL", START - timedelta(days=9)) == 4
    later = read_splits(path, NOW + timedelta(days=3))
    assert later.factor_at("AAPL", START - timedelta(days=9)) == 8
    assert splits.fingerprint != later.fingerprint


def test_what_has_come_into_effect_since_is_known_by_the_fingerprint_before(tmp_path):
    lines = ("AAPL,2026-11-20,4", "MSFT,2026-11-20,2", "AAPL,2026-11-23,2", "XYZ,2020-01-07,1:2")
    path = write(tmp_path, *lines)
    now = read_splits(path, NOW + timedelta(days=3))
    on_friday, long_ago = read_splits(path, NOW), read_splits(path, at("2020-12-01T00:00Z"))
    (monday,) = now.since(on_friday.fingerprint)
    assert (monday.symbol, monday.factor) == ("AAPL", 2)
    assert monday.effective == at("2026-11-23T01:00Z")
    assert [s.symbol for s in now.since(long_ago.fingerprint)] == ["AAPL", "MSFT", "AAPL"]
    assert len(now.since(None)) == 4
    assert now.since(now.fingerprint) == []
    assert now.since("of another file") == on_friday.since(now.fingerprint) == []


def test_the_same_splits_in_another_order_have_the_same_fingerprint(tmp_path):
    one = read_splits(write(tmp_path, "A,2020-08-31,4", "B,2020-08-31,2"), NOW)
    other = read_splits(write(tmp_path, "B,2020-08-31,2.0", "A,2020-08-31,4:1"), NOW)
    assert one.fingerprint == other.fingerprint
    assert NO_SPLITS.fingerprint is None


@pytest.mark.parametrize(
    ("symbol", "day", "begins"),
    [
        ("AAPL", "2026-01-12", "2026-01-12T01:00Z"),
        ("AAPL", "2026-07-13", "2026-07-13T00:00Z"),
        ("LSE:VOD", "2026-07-13", "2026-07-12T23:00Z"),
        ("7203.T", "2026-07-13", "2026-07-12T15:00Z"),
        ("BINANCE:BTCUSDT", "2026-07-13", "2026-07-13T00:00Z"),
        ("OANDA:EUR_USD", "2026-07-13", "2026-07-13T00:00Z"),
    ],
)
def test_when_the_trades_of_a_day_begin(symbol, day, begins):
    assert day_begins(symbol, date.fromisoformat(day)) == at(begins)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (",2020-08-31,4", "line 2: '' names no symbol"),
        ('"A,B",2020-08-31,4', "line 2: 'A,B' is not one symbol"),
        ("AAPL,31.8.2020,4", "line 2: '31.8.2020' is no day or time"),
        ("AAPL,2020-02-30,4", "'2020-02-30' is no day or time"),
        ("AAPL,,4", "'' is no day or time"),
        ("AAPL,2020-08-31T04:00,4", "needs a zone"),
        ("AAPL,1969-08-31,4", "is not of 1970 to 2099"),
        ("AAPL,2020-08-31T13:30Z,4", "is no full hour of UTC"),
        ("AAPL,2020-08-31,0", "'0' is no factor"),
        ("AAPL,2020-08-31,-4", "'-4' is no factor"),
        ("AAPL,2020-08-31,1e9", "'1e9' is no factor"),
        ("AAPL,2020-08-31,1:0", "'1:0' is no factor"),
        ("AAPL,2020-08-31,nan", "'nan' is no factor"),
        ("AAPL,2020-08-31,2000000", "a million at most"),
        ("AAPL,2020-08-31", "'' is no factor"),
    ],
)
def test_a_wrong_line_is_refused_and_said(tmp_path, line, said):
    path = write(tmp_path, line)
    with pytest.raises(UsageError) as caught:
        read_splits(path, NOW)
    assert str(caught.value).startswith(f"The splits in {path} are not valid: line 2: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "head", "said"),
    [
        ([], "symbol,effective,factor", "it holds none"),
        (["AAPL,4"], "symbol,factor", "its first line names the columns symbol, effective, factor"),
        (["A,A,B,C"], "symbol,symbol,effective,factor", "each once"),
        (
            ["AAPL,2020-08-31,4", "AAPL,2020-08-31T00:00Z,4"],
            "symbol,effective,factor",
            "line 3: AAPL is split at 2020-08-31T00:00:00Z a second time",
        ),
        (['AAPL,"2020-08-31,4'], "symbol,effective,factor", "unexpected end of data"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, lines, head, said):
    with pytest.raises(UsageError, match="are not valid: ") as caught:
        read_splits(write(tmp_path, *lines, head=head), NOW)
    assert said in str(caught.value)


def test_trades_are_not_adjusted(tmp_path):
    path = write(tmp_path, "AAPL,2020-08-31,4")
    with pytest.raises(UsageError, match="--splits is of bars"):
        export(Kind.TRADES, tmp_path / "trades", splits=path)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_splits(tmp_path / "none.csv", NOW)
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00symbol")
    with pytest.raises(UsageError, match="not text in UTF-8"):
        read_splits(tmp_path / "x.csv", NOW)
