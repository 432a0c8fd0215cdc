"""`tapeline replay --check` and what is refused before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapeline.cli.replay import replay
from tapeline.model.errors import TapeError, UsageError
from tapeline.model.symbols import parse_symbols
from tapeline.producer.main import names_in
from tapeline.simulator.tape_file.presets import TapeFormat
from tests.commands import fail, run
from tests.hand import TAPE

HEADER = "event_time_ms,symbol,price,volume,conditions"
NOWHERE = {
    "TAPELINE_CASSANDRA__HOST": "127.0.0.1",
    "TAPELINE_CASSANDRA__PORT": "9",
    "TAPELINE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
}
"""Services that are not there, so that nothing is started either."""


def written(folder: Path, *lines: str) -> str:
    path = folder / "tape.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_a_check_says_what_was_understood_and_starts_nothing(tmp_path):
    path = written(
        tmp_path,
        "note;ts;ticker;px;qty;cond",
        "a;1710513000100999;IBM   ;10.00;100;@F I",
        "b;1710513002000000;SPY;512.10;5;@2",
        "c;1710513000200000;IBM;10.01;100; ",
    )
    columns = "time=ts,symbol=ticker,price=px,size=qty,conditions=cond"
    output = run(
        *("replay", path, "--columns", columns, "--conditions", "sip", "--check"),
        environment=NOWHERE,
    )
    assert output.splitlines() == [
        f"3 trades of 2 symbols in {path}.",
        "File: CSV, semicolons, read as trades.",
        "From 2024-03-15T14:30:00.100Z to 2024-03-15T14:30:02Z.",
        "Symbols: IBM, SPY.",
        "Times: microseconds since 1970.",
        (
            "Columns used: time: ts, symbol: ticker, price: px, size: qty, conditions: cond; "
            "ignored: note."
        ),
        "Conditions, from sip codes to Finnhub's ids: 1 (2), 8 (1), 12 (1).",
        (
            "Conditions without a rule, kept as they are, whose trades set no price unless the "
            "policy is all: sip-2 (1)."
        ),
        "Order: trades that are older than one before them: 1, by 1.800 s at most.",
    ]


def test_a_check_of_our_own_tape():
    lines = run("replay", str(TAPE), "--check", environment=NOWHERE).splitlines()
    assert lines[0] == f"17 trades of 2 symbols in {TAPE}."
    assert "Symbols: COIN:TESTUSD, TEST." in lines
    assert "Times: milliseconds since 1970." in lines
    assert any("is all: 99 (1)." in line for line in lines)
    # The trade of 9.90 comes two hours late.
    assert any(
        line.startswith("Order: trades that are older than one before them: 1,") for line in lines
    )


@pytest.mark.parametrize(
    ("line", "options", "sentence"),
    [
        ("1710513000,A,1,1,", {"columns": "when=x"}, "--columns: 'when=x' is not one of time"),
        ("1710513000,A,1,1,", {"columns": "time=x"}, "has no column x; it has event_time_ms"),
        ("1710513000,A,1,1,", {"symbol": "B"}, "--symbol is for a tape without a column"),
        ("1,A,1,1,", {"symbol": "B", "columns": "symbol=x"}, "say two things: leave one out"),
        ("17,A,1,1,", {"check": True}, "column event_time_ms, row 2: '17' is no time"),
        ('1710513000,"A,B",1,1,', {}, "'A,B' is not a valid symbol"),
        ("1710513000,A,1,1,", {"tape_format": TapeFormat.KRAKEN}, "is no tape in format kraken"),
    ],
)
def test_what_is_no_tape_is_one_sentence_before_anything_is_started(
    tmp_path, monkeypatch, line, options, sentence
):
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        replay(Path(written(tmp_path, HEADER, line)), **options)
    assert sentence in str(caught.value)


def test_a_tape_of_dead_letters_ends_a_replay_with_code_2(tmp_path):
    path = written(tmp_path, HEADER, "1735689600000123,A,1,1,", "1735689600000,A,1,1,")
    assert fail("replay", path, environment=NOWHERE) == (
        2,
        (
            f"Error: {path} is no tape: column event_time_ms, row 3: '1735689600000' is in "
            "milliseconds and the rows before it are in microseconds: one unit a column.\n"
        ),
    )


def test_options_of_a_tape_go_with_one():
    code, output = fail("simulate", "--format", "binance")
    assert (code, output) == (
        2,
        "Error: --format, --columns, --symbol and --conditions go with --tape.\n",
    )


@pytest.mark.parametrize("options", [{"speed": "60"}, {"fault": ["redeliver=0.1"]}])
def test_a_crowded_millisecond_is_refused_with_a_clock_or_faults(tmp_path, monkeypatch, options):
    monkeypatch.setenv("TAPELINE_FINNHUB__MAX_FRAME_BYTES", "4000")
    path = Path(written(tmp_path, HEADER, *(["1710513000100,A,1,1,"] * 100)))
    with pytest.raises(TapeError, match="play it with --speed max and without faults"):
        replay(path, **options)
    replay(path, check=True)


def test_the_help_shows_how_to_read_a_vendors_file():
    assert "--format binance --symbol BINANCE:BTCUSDT" in (replay.__doc__ or "")


def test_symbols_come_from_a_file_one_a_line(tmp_path):
    names = [f"O:SPY2403{n:05}C00{n:06}" for n in range(7_000)]
    path = tmp_path / "symbols.txt"
    path.write_text("\n".join(names), encoding="utf-8")
    assert path.stat().st_size > 131_072  # more than one argument may hold
    assert parse_symbols(names_in(path)) == tuple(names)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_a_file_without_a_symbol_is_refused(tmp_path, content):
    path = tmp_path / "symbols.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        parse_symbols(names_in(path))


def test_a_file_of_symbols_that_is_not_there_is_named(tmp_path):
    code, output = fail("produce", "--symbols-file", str(tmp_path / "none"))
    assert code == 2
    assert f"--symbols-file: {tmp_path / 'none'} cannot be read" in output
