"""What users are likely to get wrong, a table a command.

Each is answered with exit code 2 and a sentence before anything is started, fetched or made.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tapeline.cli.app import COMMANDS, main
from tests.hand import TAPE

LIMIT_S = 20.0
NO_TOPIC = "is not a valid topic name"
NO_KEYSPACE = "is not a valid keyspace name"
NO_SYMBOL = "names no symbol"
BAD_SYMBOL = "is not a valid symbol"
NO_INTERVAL = "give minutes that divide a day"
NO_TIME = "does not match the formats"
TOO_LOW = "greater than or equal to"
TOO_HIGH = "less than or equal to"
NO_INTEGER = "should be a valid integer"
NO_SUCH_OPTION = "No such option"
NO_SPEED = "--speed is 'max' or a number from"
AFTER = "is not after --from"
BAD_FILE = str(TAPE / "below")

NAMES = [
    ("--keyspace Market-Data", NO_KEYSPACE),
    ("--keyspace market.data", NO_KEYSPACE),
    ("--keyspace=", NO_KEYSPACE),
    (f"--keyspace {'k' * 49}", NO_KEYSPACE),
]
TOPICS = [
    ("--topic trades/raw", NO_TOPIC),
    ("--topic=", NO_TOPIC),
    ("--topic ..", NO_TOPIC),
    (f"--topic {'t' * 250}", NO_TOPIC),
]
TIMES = [
    ("--from yesterday", NO_TIME),
    ("--from 20.11.2026", NO_TIME),
    ("--from 2026-13-01", NO_TIME),
    ("--to 2026-11-31", NO_TIME),
    ("--to 1700000000", NO_TIME),
    ("--from=", NO_TIME),
]
TURNED = [
    ("--from 2026-11-21 --to 2026-11-20", AFTER),
    ("--from 2026-11-20 --to 2026-11-20", AFTER),
]
SYMBOLS = [
    ("--symbols ,", NO_SYMBOL),
    ("--symbols=", NO_SYMBOL),
    ("--symbols ' , '", NO_SYMBOL),
    ("--symbols 'AAPL;MSFT'", BAD_SYMBOL),
    (f"--symbols {'A' * 129}", BAD_SYMBOL),
    ("--symbols 'AA\tPL'", BAD_SYMBOL),
]
INTERVALS = [
    (f"--interval {text}", NO_INTERVAL) for text in ("5min", "7m", "0m", "2d", "1w", "H1", "60")
]
FILLED = [
    ("--interval 0tick", "give a whole number of ticks above 0"),
    ("--interval 0volume", "give an amount above 0"),
    ("--interval 100ticks", "such as 1000tick, 50000volume or 1000000dollar"),
    ("--splits no/such.csv", "There is no file no/such.csv"),
    (f"--splits {TAPE}", "its first line names the columns symbol, effective, factor"),
]
LEVELS = [("--log-level loud", "'debug', 'info', 'warning', 'error'")]
SPEEDS = [
    (f"--speed={text}", NO_SPEED) for text in ("0", "-1", "nan", "inf", "fast", "60x", "1e308", "")
]
FAULTS = [
    (f"--fault {text}", "is no fault")
    for text in (
        "redeliver=2",
        "redeliver=nan",
        "reorder=5",
        "late=0.1",
        "drop=60s",
        "lag=1s",
        "bad",
    )
]
PROFILES = [("--profile large", "'small', 'standard'")]

TABLE = {
    "demo": [
        ("--for 0", TOO_LOW),
        ("--for -5", TOO_LOW),
        ("--for nan", "valid"),
        ("--for inf", "valid"),
        ("--for 1e300", TOO_HIGH),
        ("--for 5m", "should be a valid number"),
        ("--for", "requires an argument"),
        ("--port 8700", NO_SUCH_OPTION),
        ("AAPL", "unexpected extra argument"),
        *PROFILES,
    ],
    "replay": [
        ("", "Missing argument"),
        ("no/such.csv", "There is no tape no/such.csv"),
        (f"{TAPE} --into Market-Data", NO_KEYSPACE),
        (f"{TAPE} --into=", NO_KEYSPACE),
        (f"{TAPE} --into 1st", NO_KEYSPACE),
        (f"{TAPE} --into 'market data'", NO_KEYSPACE),
        (f"{TAPE} --policy sips", "is no policy: give sip, sip+oddlot, all or a file"),
        (f"{TAPE} --seed one", NO_INTEGER),
        (f"{TAPE} --seed 1.5", NO_INTEGER),
        (f"{TAPE} {TAPE}", "unexpected extra argument"),
        (f"{TAPE} --keyspace replay", NO_SUCH_OPTION),
        *((f"{TAPE} {text}", said) for text, said in SPEEDS + FAULTS),
    ],
    "bars": [
        ("", "Missing argument"),
        (",", NO_SYMBOL),
        ("' '", NO_SYMBOL),
        ("'AAPL;MSFT'", BAD_SYMBOL),
        ("--symbols AAPL", NO_SUCH_OPTION),
        ("AAPL --format excel", "'table', 'csv', 'json', 'parquet'"),
        ("AAPL -o no/such/folder/bars.csv --format csv", "There is no folder no/such/folder"),
        (f"AAPL -o {TAPE.parent}", "is a folder: name a file"),
        (f"AAPL --format csv -o {BAD_FILE}", "There is no folder"),
        ("AAPL -o ~no-such-user/bars.csv", "names no user of this machine"),
        ("AAPL -o bars.csv", "bars.csv would hold a table: add --format csv"),
        ("AAPL -o bars.json --format csv", "would hold a csv: add --format json"),
        ("AAPL --watch -o bars.txt", "--watch draws on the terminal"),
        ("AAPL --watch --format json", "--watch draws on the terminal"),
        ("AAPL --watch", "--watch draws on a terminal"),
        ("AAPL --watch --interval 1000tick", "--watch draws bars of a length of time"),
        ("AAPL --watch --from 2026-11-21 --to 2026-11-20", AFTER),
        ("AAPL --from 2026-11-21 --to 2026-11-20", "would end"),
        ("AAPL --to 2020-01-01", "give --from"),
        ("AAPL --from 2999-01-01", "would end"),
        *((f"AAPL {text}", said) for text, said in NAMES + TIMES + INTERVALS + FILLED),
    ],
    "export": [
        ("", "Missing argument"),
        ("bars", "Missing option"),
        ("candles -o x", "'bars', 'trades'"),
        ("bars -o bars.parquet", "bars.parquet is a file's name: name a folder"),
        ("trades -o trades.csv", "trades.csv is a file's name: name a folder"),
        (f"bars -o {TAPE.parent / 'README.md'}", "is a file: name a folder"),
        (f"bars -o {TAPE.parent / 'README.md' / 'x'}", "is a file: name a folder"),
        ("trades -o x --interval 5m", "--interval is of bars: leave it out, or export bars"),
        ("trades -o x --detail", "--detail is of bars"),
        ("trades -o x --provisional", "--provisional is of bars"),
        ("trades -o x --format delta", "A Delta table holds bars of a time: export others"),
        ("bars -o x --format delta --interval 9tick", "A Delta table holds bars of a time"),
        ("bars -o x --format excel", "'parquet', 'csv', 'arrow'"),
        ("bars -o x --from 2026-11-20T14:30", NO_TIME),
        *(
            (f"bars -o x {text}", said)
            for text, said in NAMES + TIMES + TURNED + SYMBOLS + INTERVALS + FILLED
        ),
    ],
    "gaps": [
        ("AAPL", "unexpected extra argument"),
        ("--format csv", "'table', 'json'"),
        ("--topic trades_raw", NO_SUCH_OPTION),
        *NAMES,
        *TIMES,
        *TURNED,
    ],
    "heal": [
        ("", "Missing option '--from'"),
        ("--from 2026-11-20 --source finnhub", "no numbers, so nothing tells which are missing"),
        ("--from 2026-11-20 --source simulator", "The trades of simulator have no numbers"),
        ("--from 2026-11-20 --source bitstamp", "choose one of coinbase, kraken, binance"),
        ("--from 2026-11-20 --symbols BTC-USD", "Say with --source whose symbols these are"),
        (
            "--from 2026-11-20 --source coinbase --symbols KRAKEN:BTC/USD",
            "not a symbol of COINBASE",
        ),
        *(
            (f"--from 2026-11-20 --source coinbase {text}", said)
            for text, said in NAMES + TOPICS + TIMES + TURNED + SYMBOLS
        ),
    ],
    "api": [
        ("--port 0.5", NO_INTEGER),
        ("--port http", NO_INTEGER),
        ("--port -1", TOO_LOW),
        ("--port 65536", TOO_HIGH),
        ("--port 99999999999999999999", TOO_HIGH),
        ("--host=", "is not a valid address"),
        ("--host http://0.0.0.0", "is not a valid address"),
        ("--host '0.0.0.0 '", "is not a valid address"),
        ("--host no-such-host.invalid", "cannot be listened on"),
        ("--host 203.0.113.1", "cannot be listened on"),
        (f"--host {'a' * 70}.example", "cannot be listened on"),
        ("--root-path tapeline", "is not a valid path"),
        ("--root-path https://proxy.example/tapeline", "is not a valid path"),
        ("--root-path '/tape line'", "is not a valid path"),
        ("--symbols AAPL", NO_SUCH_OPTION),
        *NAMES,
        *TOPICS,
    ],
    "watch": [
        ("", "There is no rule: give one with --when or --rules"),
        ("AAPL", "unexpected extra argument"),
        ("--when AAPL", "names no symbol or nothing to wait for"),
        ("--when 'AAPL price > 280'", "'price' is no field of a bar"),
        ("--when 'AAPL 7m final'", NO_INTERVAL),
        ("--when gap --when gap", "Two rules are called 'gap'"),
        ("--when gap --rules no.toml", "There is no file no.toml"),
        ("--when gap --webhook alerts.example", "this is not a valid address"),
        ("--when gap --webhook ftp://alerts.example", "this is not a valid address"),
        ("--when gap --webhook https://me:pw@alerts.example", "without a password"),
        ("--when gap --webhook https://alerts.example", "set TAPELINE_WATCH__SECRET to what"),
        ("--when gap --api 127.0.0.1:8700", "is not a valid address of an API"),
        ("--when gap --name a/b", "is not a valid name"),
        ("--when gap --since yesterday", NO_TIME),
    ],
    "up": [("kafka", "unexpected extra argument"), ("--port 9092", NO_SUCH_OPTION), *PROFILES],
    "down": [("kafka", "unexpected extra argument"), ("--all", NO_SUCH_OPTION)],
    "status": [
        ("demo", "unexpected extra argument"),
        ("--format csv", "'table', 'json'"),
        *NAMES,
        *TOPICS,
    ],
    "doctor": [
        ("demo", "unexpected extra argument"),
        ("--format csv", "'table', 'json'"),
        *NAMES,
        *TOPICS,
    ],
    "init": [("market_data", "unexpected extra argument"), *NAMES, *TOPICS],
    "produce": [
        ("AAPL", "unexpected extra argument"),
        ("--symbols AAPL", "FINNHUB_API_KEY is not set"),
        ("--symbols AAPL --source finhub", "'finnhub', 'coinbase', 'kraken'"),
        ("--source coinbase --symbols A --source kraken", "are 2 --source and 1 list of symbols"),
        ("--source coinbase --source coinbase", "--source coinbase is there 2 times"),
        ("--source coinbase --source simulator", "--source simulator goes alone"),
        ("--source coinbase --source finnhub", "FINNHUB_API_KEY is not set"),
        (
            "--source finnhub --symbols BINANCE:BTCUSDT --source binance --symbols BTCUSDT",
            "BINANCE:BTCUSDT would come by 2 sources",
        ),
        ("--producer-id a/b", "is not a valid name of a producer"),
        ("--producer-id=", "is not a valid name of a producer"),
        ("--producer-id ..", "is not a valid name of a producer"),
        ("--producer-id 'my host'", "is not a valid name of a producer"),
        (f"--producer-id {'p' * 101}", "is not a valid name of a producer"),
        ("--keyspace demo", NO_SUCH_OPTION),
        *((f"--source simulator {text}", said) for text, said in SYMBOLS + TOPICS),
        *SPEEDS,
        *LEVELS,
    ],
    "symbols": [
        ("", "Missing argument 'action'"),
        ("drop AAPL", "'list', 'add', 'remove'"),
        ("add", "needs names, as AAPL,MSFT"),
        ("list AAPL", "lists all: leave the names out"),
        ("add 'A;B'", BAD_SYMBOL),
        ("add ,", NO_SYMBOL),
        ("add AAPL --source nasdaq", "'finnhub', 'coinbase', 'kraken'"),
        *((f"list {text}", said) for text, said in TOPICS),
    ],
    "stream": [
        ("--job golden", "'bronze', 'silver', 'gold', 'finalize', 'all'"),
        ("--symbols AAPL", NO_SUCH_OPTION),
        ("--job finalize --reset-checkpoint --yes", "has no checkpoint"),
        ("--job silver --until-final", "makes no bar final"),
        ("--policy none", "is no policy: give sip, sip+oddlot, all or a file"),
        ("--sink kafka", "'cassandra', 'console'"),
        ("--starting-offsets oldest", "'earliest', 'latest'"),
        ("--trigger 5s", "write e.g. '500 milliseconds'"),
        ("--trigger 5", "write e.g. '500 milliseconds'"),
        ("--trigger '-5 seconds'", "write e.g. '500 milliseconds'"),
        ("--trigger '99999999999 seconds'", "write e.g. '500 milliseconds'"),
        ("--trigger 'nan seconds'", "write e.g. '500 milliseconds'"),
        ("--trigger=", "write e.g. '500 milliseconds'"),
        (f"--checkpoint-dir {TAPE}", "is a file: name a folder"),
        (f"--checkpoint-dir {BAD_FILE}", "is a file: name a folder"),
        *NAMES,
        *TOPICS,
        *LEVELS,
        *PROFILES,
    ],
    "simulate": [
        ("--port 0", TOO_LOW),
        ("--port -1", TOO_LOW),
        ("--port 99999", TOO_HIGH),
        ("--port 65536", TOO_HIGH),
        ("--port ws", NO_INTEGER),
        ("--host=", "is not a valid address"),
        ("--host ws://localhost", "is not a valid address"),
        ("--host no-such-host.invalid", "Cannot listen on"),
        (f"--host {'a' * 70}.example", "Cannot listen on"),
        ("--frame-ms 0", TOO_LOW),
        ("--frame-ms 1e3", NO_INTEGER),
        ("--frame-ms 60001", TOO_HIGH),
        ("--symbol-cap 0", TOO_LOW),
        ("--symbol-cap 10000000000", TOO_HIGH),
        ("--send-limit -1", TOO_LOW),
        ("--send-limit 10000000000000000000", TOO_HIGH),
        (f"--tape {TAPE} --send-limit 9 --speed max", "--send-limit needs a clock"),
        ("--speed 2", "--speed goes with --tape"),
        ("--seed pi", NO_INTEGER),
        ("--tape no/such.csv", "There is no tape no/such.csv"),
        ("--report no/such/folder/sent.json", "There is no folder no/such/folder"),
        (f"--report {TAPE.parent}", "is a folder: name a file"),
        *SPEEDS,
        *FAULTS,
    ],
    "settings": [("--format json", "'table', 'markdown', 'env'"), ("HOME", "extra argument")],
    "metrics": [("--format env", "'table', 'markdown'"), ("--port 9108", NO_SUCH_OPTION)],
    "rebuild": [
        ("", "Missing argument"),
        ("bronze", "'silver', 'gold'"),
        ("gold --policy none", "is no policy: give sip, sip+oddlot, all or a file"),
        *(
            (f"gold {text}", said)
            for text, said in NAMES + TOPICS + TIMES + TURNED + SYMBOLS + LEVELS
        ),
    ],
    "trace": [
        ("", "Missing argument"),
        ("AAPL", "Missing argument 'TIME'"),
        ("AAPL yesterday", "'yesterday' is no time: give one such as 2026-11-20T14:31:07.123"),
        ("AAPL 2026-11-20 --id first", NO_INTEGER),
        ("AAPL 2026-11-20 --limit 0", TOO_LOW),
        ("AAPL 2026-11-20 --format csv", "'table', 'json'"),
        *((f"AAPL 2026-11-20 {text}", said) for text, said in NAMES + TOPICS),
    ],
    "dead-letters": [
        ("", "Missing argument"),
        ("delete", "'list', 'show', 'redrive'"),
        ("show --limit 0", TOO_LOW),
        ("show --limit -1", TOO_LOW),
        ("show --limit ten", NO_INTEGER),
        ("show --limit 99999999999999999999", TOO_HIGH),
        ("list --reason badprice", "'bad_price'"),
        ("list --reason=", "'bad_price'"),
        ("list --format csv", "'table', 'json'"),
        *((f"list {text}", said) for text, said in NAMES + TOPICS),
    ],
    "audit": [
        ("--against no/such.csv", "There is no file no/such.csv"),
        (f"--against {TAPE.parent}", "There is no file"),
        ("-o no/such/folder/report.txt", "There is no folder no/such/folder"),
        (f"-o {TAPE.parent}", "is a folder: name a file"),
        ("--format csv", "'table', 'json'"),
        *NAMES,
        *TOPICS,
        *TIMES,
        *TURNED,
        *SYMBOLS,
    ],
}
MISTAKES = [(name, text, said) for name, rows in TABLE.items() for text, said in rows]


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder of a user without a home, a key or services; whatever runs on is stopped."""
    for name in os.environ:
        if name.startswith("TAPELINE_") or name == "FINNHUB_API_KEY":
            monkeypatch.delenv(name)
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TAPELINE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv("TAPELINE_CASSANDRA__HOST", "127.0.0.1")
    monkeypatch.setenv("TAPELINE_CASSANDRA__PORT", "9")
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)

    def stop(*_: object) -> None:
        message = "The command was begun."
        raise AssertionError(message)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    yield tmp_path
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    structlog.reset_defaults()
    logging.getLogger("cassandra").setLevel(logging.NOTSET)


def answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[object, str]:
    """Run a command as a program would; return its exit code and what it says, on one line."""
    monkeypatch.setattr("sys.argv", ["tapeline", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return ended.value.code, " ".join(re.sub("[│╭╮╰╯─]", " ", said.out + said.err).split())


def test_every_command_is_in_the_table() -> None:
    assert set(TABLE) == set(COMMANDS)


@pytest.mark.parametrize(("command", "text", "said"), MISTAKES)
def test_a_mistake_is_a_sentence_with_code_2_and_nothing_is_made(
    user: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    text: str,
    said: str,
) -> None:
    code, shown = answer(monkeypatch, capsys, command, *shlex.split(text))

    assert said in shown
    assert code == 2
    assert list(user.iterdir()) == []


OF_SETTINGS = {
    "demo": "",
    "replay": str(TAPE),
    "bars": "AAPL",
    "export": "bars -o x",
    "gaps": "",
    "heal": "--from 2026-11-20",
    "api": "",
    "watch": "--when gap",
    "up": "",
    "down": "",
    "status": "",
    "init": "",
    "produce": "--source simulator",
    "symbols": "list",
    "stream": "",
    "simulate": "",
    "rebuild": "gold",
    "trace": "AAPL 2026-11-20",
    "dead-letters": "list",
    "audit": "",
}
"""Commands that read the settings, without a mistake of their own."""
WRITES_HOME = ("demo", "replay", "up", "down", "produce", "stream", "rebuild", "watch")


@pytest.mark.parametrize(("command", "text"), OF_SETTINGS.items())
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TAPELINE_KAFKA__PARTITIONS", "0", "TAPELINE_KAFKA__PARTITIONS is '0': input should be"),
        ("TAPELINE_KAFKA_TOPIC", "x", "do you mean TAPELINE_KAFKA__TOPIC?"),
        ("TAPELINE_HOME", __file__, "is a file: name a folder"),
        ("TAPELINE_ENV_FILE", "no.env", "TAPELINE_ENV_FILE names no.env, which is no file"),
    ],
)
@pytest.mark.usefixtures("user")
def test_a_wrong_setting_is_said_by_every_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    text: str,
    variable: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(variable, value)
    code, shown = answer(monkeypatch, capsys, command, *shlex.split(text))
    assert said in shown
    assert code == 2


@pytest.mark.parametrize("command", WRITES_HOME)
@pytest.mark.usefixtures("user")
def test_a_home_that_cannot_be_written_is_said_by_every_command_that_writes_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setenv("TAPELINE_HOME", "/proc/none")
    code, shown = answer(monkeypatch, capsys, command, *shlex.split(OF_SETTINGS[command]))
    assert "set TAPELINE_HOME to a folder of your own" in shown
    assert code == 2


@pytest.mark.usefixtures("user")
def test_a_proxy_that_cannot_be_used_is_said_before_the_producer_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FINNHUB_API_KEY", "c9secret")
    monkeypatch.setenv("https_proxy", "ftp://me:secret@proxy")
    code, shown = answer(monkeypatch, capsys, "produce")
    assert "The environment's proxy is not a valid address" in shown
    assert "secret" not in shown
    assert code == 2
