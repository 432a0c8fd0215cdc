"""`tapeline bars`: what is asked for and how it is written; the bars come from this test."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tapeline.cli import bars as bars_command
from tapeline.cli.bars import BarFormat, bars
from tapeline.model.errors import UsageError
from tapeline.read.bars import bars_table
from tests.sample import a_bar

FULL = a_bar(
    symbol="BINANCE:BTCUSDT",
    open=84_900.01,
    high=84_950.5,
    low=84_890.25,
    close=84_901.75,
    volume=Decimal("12.34567"),
    notional=Decimal("1048200.5"),
    vwap=84_904.3,
    trade_count=1234,
    is_final=True,
    is_complete=True,
    revision=1,
    session="continuous",
)
EMPTY = replace(
    FULL,
    symbol="AAPL",
    open=None,
    high=None,
    low=None,
    close=None,
    volume=Decimal(7),
    vwap=None,
    trade_count=2,
    is_final=False,
    is_complete=None,
    revision=0,
)
TABLE = bars_table([FULL, EMPTY], exact=False)
NAMES = TABLE.schema.names


class Asked:
    """Stands in for read_bars: keeps what it is asked and returns the bars above."""

    table = TABLE

    def __call__(
        self, symbols, interval, start, end, *, detail, session, splits, sources, settings
    ):
        self.symbols, self.interval = symbols, interval
        self.keyspace = settings.cassandra.keyspace
        self.start, self.end, self.detail, self.session = start, end, detail, session
        self.splits, self.sources = splits, sources
        return self.table


@pytest.fixture
def asked(monkeypatch) -> Asked:
    asked = Asked()
    monkeypatch.setattr(bars_command, "read_bars", asked)
    monkeypatch.setattr(bars_command, "known_symbols", lambda *_, **__: {"AAPL", "MSFT"})
    return asked


def test_symbols_interval_and_keyspace_are_passed_on(asked):
    bars(["AAPL", "MSFT"], interval="1h", keyspace="replay")
    assert (asked.symbols, asked.interval, asked.keyspace) == (["AAPL", "MSFT"], "1h", "replay")


def test_one_session_is_passed_on(asked):
    bars(["AAPL"], interval="1h", session="regular")
    assert asked.session == "regular"


def test_bars_by_what_was_traded_and_a_file_of_splits_are_passed_on(asked):
    bars(["AAPL"], interval="1000tick", session="regular", splits=Path("s.csv"))
    assert (asked.interval, asked.session, asked.splits) == ("1000tick", "regular", Path("s.csv"))


def test_sources_are_asked_for_and_are_the_last_column(asked, capsys):
    asked.table = TABLE.append_column("sources", [["binance=1214 binance:backfill=20", None]])
    bars(["AAPL"], interval="1h", sources=True)
    heads, _, first, second = (line.split() for line in capsys.readouterr().out.splitlines())
    assert asked.sources
    assert heads[-2:] == ["state", "sources"]
    assert first[-3:] == ["final", "binance=1214", "binance:backfill=20"]
    assert second[-1] == "prov."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"session": "lunch"}, "'lunch' is no session of 5m bars: give pre, regular, post"),
        ({"session": "pre", "interval": "1d"}, "'pre' is no session of 1d bars: give regular"),
        ({"session": "regular", "watch": True}, "--watch shows every session"),
        ({"session": "lunch", "interval": "9tick"}, "'lunch' is no session: give pre, regular"),
        ({"interval": "9tick", "watch": True}, "--watch draws bars of a length of time"),
        ({"splits": Path("s.csv"), "watch": True}, "leave out --splits"),
        ({"sources": True, "watch": True}, "leave out --sources"),
        ({"sources": True, "session": "regular"}, "below a day, of all sessions"),
        ({"sources": True, "interval": "1d"}, "below a day, of all sessions"),
        ({"sources": True, "interval": "9tick"}, "below a day, of all sessions"),
    ],
)
def test_what_cannot_be_shown_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        bars(["AAPL"], **options)


def test_times_are_taken_as_utc(asked):
    bars(["AAPL"], start=datetime(2026, 11, 20), end=datetime(2026, 11, 20, 16, 30))  # noqa: DTZ001
    assert asked.start == datetime(2026, 11, 20, tzinfo=timezone.utc)
    assert asked.end == datetime(2026, 11, 20, 16, 30, tzinfo=timezone.utc)


def test_without_times_it_is_today_from_its_very_first_bar(asked):
    before = datetime.now(timezone.utc)
    bars(["AAPL"])
    after = datetime.now(timezone.utc)
    assert before <= asked.end <= after
    midnight = asked.end.date()
    assert asked.start == datetime(midnight.year, midnight.month, midnight.day, tzinfo=timezone.utc)


def test_an_end_before_the_start_is_refused():
    with pytest.raises(UsageError, match=r"end \(2026-11-19T00:00:00Z\) before any .* see --from"):
        bars(["AAPL"], start=datetime(2026, 11, 20), end=datetime(2026, 11, 19))  # noqa: DTZ001


def test_a_known_symbol_without_bars_in_the_range_is_said(asked, capsys):
    asked.table = TABLE.slice(0, 0)
    bars(["AAPL"], start=datetime(2026, 11, 20), end=datetime(2026, 11, 21))  # noqa: DTZ001
    said = capsys.readouterr().err
    assert "No bar starts from 2026-11-20T00:00:00Z to 2026-11-21T00:00:00Z" in said


DAY = "A 1d bar of a share starts when its exchange opens and holds regular hours only"
SESSION = "With --session regular only trades of that session count"


@pytest.mark.parametrize(
    ("symbols", "options", "reason"),
    [
        (["AAPL"], {"interval": "1d"}, DAY),
        (["BINANCE:BTCUSDT", "AAPL"], {"interval": "1d"}, DAY),
        (["AAPL"], {"interval": "1h", "session": "regular"}, SESSION),
        (["AAPL"], {"interval": "9tick", "session": "regular"}, SESSION),
        (["AAPL"], {"interval": "1h"}, None),
        (["BINANCE:BTCUSDT"], {"interval": "1d"}, None),
    ],
)
def test_bars_that_leave_trades_out_say_so_where_there_is_none(
    asked, capsys, monkeypatch, symbols, options, reason
):
    asked.table = TABLE.slice(0, 0)
    monkeypatch.setattr(bars_command, "known_symbols", lambda *_, **__: set(symbols))
    bars(symbols, **options)
    said = capsys.readouterr()
    assert "see --from and --to." in said.err
    assert [text for text in (DAY, SESSION) if text in said.err] == [reason] * bool(reason)
    assert said.out == ""


def test_symbols_may_have_commas_and_blanks_between_them(asked):
    bars(["AAPL, MSFT", " AAPL "])
    assert asked.symbols == ["AAPL", "MSFT"]
    with pytest.raises(UsageError, match="names no symbol"):
        bars([","])


def test_an_unknown_symbol_among_others_is_named_and_alone_it_is_an_error(asked, capsys):
    bars(["AAPL", "APPL"])
    assert "There is no bar of APPL in keyspace market_data; it has" in capsys.readouterr().err
    asked.table = TABLE.slice(0, 0)
    with pytest.raises(UsageError, match="There is no bar of APPL in keyspace market_data"):
        bars(["APPL"])


@pytest.mark.usefixtures("asked")
def test_csv_holds_every_column_with_iso_times_and_nothing_for_null(tmp_path):
    path = tmp_path / "bars.csv"
    bars(["AAPL"], output_format=BarFormat.CSV, output=path)

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == NAMES
    assert rows[0]["symbol"] == "BINANCE:BTCUSDT"
    assert rows[0]["window_start"] == "2026-11-20T14:35:00Z"
    assert rows[0]["window_end"] == "2026-11-20T14:40:00Z"
    assert float(rows[0]["open"]) == 84_900.01
    assert float(rows[0]["volume"]) == 12.34567
    assert rows[0]["trade_count"] == "1234"
    assert rows[0]["is_final"] == "true"
    assert [rows[1][name] for name in ("open", "high", "low", "close", "vwap")] == [""] * 5


@pytest.mark.usefixtures("asked")
def test_json_is_a_list_of_bars(tmp_path):
    path = tmp_path / "bars.json"
    bars(["AAPL"], output_format=BarFormat.JSON, output=path)

    assert json.loads(path.read_text(encoding="utf-8")) == [
        {
            "symbol": "BINANCE:BTCUSDT",
            "window_start": "2026-11-20T14:35:00Z",
            "window_end": "2026-11-20T14:40:00Z",
            "open": 84_900.01,
            "high": 84_950.5,
            "low": 84_890.25,
            "close": 84_901.75,
            "volume": 12.34567,
            "vwap": 84_904.3,
            "trade_count": 1234,
            "is_final": True,
            "revision": 1,
            "is_complete": True,
            "session": "continuous",
        },
        {
            "symbol": "AAPL",
            "window_start": "2026-11-20T14:35:00Z",
            "window_end": "2026-11-20T14:40:00Z",
            "open": None,
            "high": None,
            "low": None,
            "close": None,
            "volume": 7.0,
            "vwap": None,
            "trade_count": 2,
            "is_final": False,
            "revision": 0,
            "is_complete": None,
            "session": "continuous",
        },
    ]


@pytest.mark.usefixtures("asked")
def test_parquet_is_the_table_itself(tmp_path):
    path = tmp_path / "bars.parquet"
    bars(["AAPL"], output_format=BarFormat.PARQUET, output=path)
    assert pq.read_table(path).equals(TABLE)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("output_format", [BarFormat.CSV, BarFormat.JSON])
def test_without_a_file_it_is_written_to_standard_output(capfdbinary, tmp_path, output_format):
    path = tmp_path / "bars"
    bars(["AAPL"], output_format=output_format, output=path)
    bars(["AAPL"], output_format=output_format)
    assert capfdbinary.readouterr().out == path.read_bytes()


@pytest.mark.usefixtures("asked")
def test_parquet_goes_into_a_pipe(capfdbinary):
    bars(["AAPL"], output_format=BarFormat.PARQUET)
    assert pq.read_table(io.BytesIO(capfdbinary.readouterr().out)).equals(TABLE)


@pytest.mark.usefixtures("asked")
def test_a_table_in_a_file_is_the_one_in_a_pipe_and_is_not_cut(capsys, tmp_path):
    path = tmp_path / "bars.txt"
    bars(["AAPL"], output=path)
    bars(["AAPL"])
    text = path.read_text(encoding="utf-8")
    assert text == capsys.readouterr().out
    heads, _, first, second = (line.split() for line in text.splitlines())
    assert heads[-5:] == ["low", "close", "volume", "trades", "state"]
    assert first[-4:] == ["84901.75", "12.34567", "1234", "final"]
    assert second == ["AAPL", "11-20", "14:35", "7", "2", "prov."]


@pytest.mark.usefixtures("asked")
def test_watching_needs_a_terminal():
    with pytest.raises(UsageError, match="--watch draws on a terminal"):
        bars(["AAPL"], watch=True)
