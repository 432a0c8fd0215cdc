"""The commands as a user runs them, from the simulator's frames to bars on the terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import time
from datetime import datetime, timezone
from pathlib import Path
from urllib.request import urlopen

import psutil
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer

from tapeline import read_bars
from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.ports import free_port
from tapeline.local.state import read_state
from tapeline.model.bar import Interval
from tapeline.program.settings import load_settings
from tests.commands import (
    commands_below,
    fail,
    finish,
    rows_of_layers,
    run,
    spark_drivers,
    start,
    wait_for,
)
from tests.exchanges import Exchange, KrakenDialect
from tests.hand import TAPE, TRADES, hand_bars
from tests.page import read_page

RANGE = ("--from", "2024-03-15", "--to", "2024-03-16")
COLUMNS = (
    "symbol,window_start,window_end,open,high,low,close,volume,vwap,trade_count,is_final,revision,"
    "is_complete,session"
)


def strange_environment(folder: Path) -> dict[str, str]:
    """Return what no Spark, Java or Python of ours may mind; the home's name is another such."""
    spark, programs = folder / "spark", folder / "bin"
    for program in (spark / "bin" / "spark-submit", programs / "python3", programs / "java"):
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\necho 'openjdk version \"21.0.9\"' >&2\n")
        program.chmod(0o755)
    (spark / "conf").mkdir()
    (spark / "conf" / "spark-defaults.conf").write_text("spark.master yarn\n")
    pyspark = spark / "python" / "pyspark" / "__init__.py"
    pyspark.parent.mkdir(parents=True)
    pyspark.write_text("raise ImportError('another Spark')\n")
    hadoop = folder / "core-site.xml"
    hadoop.write_text(
        "<configuration><property><name>fs.defaultFS</name>"
        "<value>hdfs://nowhere.invalid:8020</value></property></configuration>"
    )
    python_path = [os.environ.get("PYTHONPATH", ""), str(spark / "python")]
    return {
        "TZ": "Asia/Kolkata",
        "LC_ALL": "C",
        "LANG": "C",
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
        "SPARK_HOME": str(spark),
        "SPARK_CONF_DIR": str(spark / "conf"),
        "SPARK_DIST_CLASSPATH": "/nonexistent/*",
        "HADOOP_CONF_DIR": str(folder),
        "PYSPARK_PYTHON": "/nonexistent/python",  # Spark starts no Python workers
        "PYSPARK_SUBMIT_ARGS": "--master yarn pyspark-shell",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a user who has other programs, elsewhere."""
    return strange_environment(tmp_path_factory.mktemp("other programs, like Jürgen's"))


@pytest.fixture(scope="module")
def replayed(
    stack: Endpoints, strange: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, int]:
    """The tape worked by hand, replayed into the keyspace `replay`, in a strange environment."""
    assert stack
    tape = tmp_path_factory.mktemp("tapes") / "trädes of a day.csv"
    tape.write_bytes(TAPE.read_bytes())
    return rows_of_layers(run("replay", str(tape), "--policy", "sip", environment=strange))


def metric(log: str, name: str) -> float | None:
    """Return a value that a command measures now; its log says where. None before it does."""
    urls = re.findall(r"event=metrics_served .*?url=(\S+)", log)
    return read_page(urls[-1])[name] if urls else None


def test_a_replay_ends_by_itself_with_every_trade_in_its_bar(replayed: dict[str, int]) -> None:
    assert replayed == {
        "tape": TRADES,
        "Kafka": TRADES,
        "trades_bronze": TRADES,
        "trades_silver": TRADES,
        "trades_quarantine": 0,
        "trades_gold_5m, final": len(hand_bars(Interval.FIVE_MINUTES)),
        "trades_gold_1h, final": len(hand_bars(Interval.ONE_HOUR)),
    }


@pytest.mark.usefixtures("stack")
def test_the_live_demo_shows_bars_of_a_public_feed() -> None:
    """Coinbase does not answer, and Kraken has two of the three symbols."""
    with Exchange(KrakenDialect()).running() as kraken:
        away = {"TAPELINE_FEEDS__COINBASE": f"ws://127.0.0.1:{free_port(0)}"}
        process = start("demo", "--live", environment={**away, **kraken.environment})
        assert process.stdout is not None
        assert "Trades are Kraken's" in next(line for line in process.stdout if "Kraken" in line)
        wait_for(lambda: kraken.subscribers("BTC/USD") == 1)
        shown, now_us = [], time.time_ns() // 1000
        for n in range(3):
            kraken.make("BTC/USD", f"{90_000 + n}.5", "0.25", now_us + n)
            shown.append(next(line for line in process.stdout if line.startswith("KRAKEN:")))
        process.send_signal(signal.SIGINT)
        output = finish(process)

    assert all(line.startswith("KRAKEN:BTC/USD ") for line in shown)
    assert "c=90,002.5 volume=0.75 trades=3 provisional" in shown[2]
    assert "`tapeline demo --live` goes on where it was" in output


@pytest.mark.usefixtures("replayed")
def test_bars_as_csv_have_the_documented_columns_and_iso_times(strange: dict[str, str]) -> None:
    output = run(
        "bars",
        "TEST",
        "COIN:TESTUSD",
        *RANGE,
        "--keyspace",
        "replay",
        "--format",
        "csv",
        environment=strange,
        merge=False,
    )

    assert output.splitlines()[0] == COLUMNS
    rows = list(csv.DictReader(io.StringIO(output)))
    assert rows[0]["window_start"] == "2024-03-15T14:30:00Z"
    assert rows[0]["window_end"] == "2024-03-15T14:35:00Z"
    expected = hand_bars(Interval.FIVE_MINUTES)
    for row in rows:
        start_time = datetime.fromisoformat(row["window_start"])
        bar = expected[row["symbol"], start_time]
        for name in ("open", "high", "low", "close"):
            assert (float(row[name]) if row[name] else None) == bar[name]
        assert float(row["volume"]) == float(str(bar["volume"]))
        assert (row["is_final"], row["revision"]) == ("true", "1")
    assert len(rows) == len(expected)


@pytest.mark.usefixtures("replayed")
def test_times_before_and_after_all_data_are_no_error() -> None:
    always = ("--from", "0001-01-01", "--to", "9999-12-31", "--keyspace", "replay")
    options = ("bars", "TEST", "--interval", "1d", "--format", "csv")

    days = run(*options, *always, merge=False)

    assert days == run(*options, *RANGE, "--keyspace", "replay", merge=False)
    assert len(days.splitlines()) > 1
    assert json.loads(run("gaps", *always, "--format", "json", merge=False)) == []


@pytest.mark.usefixtures("replayed")
def test_bars_as_json_parquet_and_table_agree(tmp_path: Path) -> None:
    options = ("bars", "TEST", "--interval", "1h", *RANGE, "--keyspace", "replay")
    file = tmp_path / "bars.parquet"

    from_json = json.loads(run(*options, "--format", "json", merge=False))
    run(*options, "--format", "parquet", "-o", str(file))
    from_parquet = pq.read_table(file).to_pylist()
    table, details = run(*options), run(*options, "--detail")

    assert [row["volume"] for row in from_json] == [665.0, 100.0]
    assert [row["volume"] for row in from_parquet] == [665.0, 100.0]
    assert [row["close"] for row in from_json] == [10.2, 10.3]
    assert "03-15 14:00" in table
    assert "665" in table
    assert "2024-03-15T14:00:00Z" in details


@pytest.mark.usefixtures("replayed")
def test_read_bars_keeps_decimals_when_exact_and_columns_when_empty() -> None:
    start_time = datetime(2024, 3, 15, tzinfo=timezone.utc)
    end_time = datetime(2024, 3, 16, tzinfo=timezone.utc)

    exact = read_bars("COIN:TESTUSD", "5m", start_time, end_time, keyspace="replay", exact=True)
    empty = read_bars("NOBODY", "5m", start_time, end_time, keyspace="replay")

    assert str(exact["volume"][0]) == "0.3000000000"
    assert empty.num_rows == 0
    assert ",".join(empty.schema.names) == COLUMNS


@pytest.mark.usefixtures("stack")
def test_init_may_run_twice_and_follows_the_settings() -> None:
    first = run("init", "--keyspace", "initialised", "--topic", "initialised")
    again = run(
        "init",
        *("--keyspace", "initialised", "--topic", "initialised"),
        environment={"TAPELINE_CASSANDRA__BRONZE_TTL_S": "60"},
    )

    assert "local stack" in first
    assert "are ready" in again


def test_produce_without_a_key_says_the_exact_command() -> None:
    code, output = fail("produce", "--symbols", "AAPL,MSFT")

    assert code == 2
    assert "tapeline produce --source simulator --symbols AAPL,MSFT" in output
    assert "tapeline stream --topic demo --keyspace demo" in output


def test_a_missing_tape_and_a_wrong_speed_are_one_sentence() -> None:
    assert fail("replay", "no/such.csv") == (2, "Error: There is no tape no/such.csv.\n")
    code, output = fail("replay", str(TAPE), "--speed", "fast")
    assert code == 2
    assert output.startswith("Error: --speed is 'max' or a number from 0.00001 to 100,000, not 'fa")


def test_a_service_that_does_not_answer_is_one_sentence() -> None:
    nowhere = {
        "TAPELINE_CASSANDRA__HOST": "127.0.0.1",
        "TAPELINE_CASSANDRA__PORT": "9",
        "TAPELINE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
    }

    code, output = fail("bars", "AAPL", environment=nowhere)

    assert code == 3
    assert "Cassandra does not answer at 127.0.0.1:9: start it (`tapeline up`" in output


@pytest.mark.usefixtures("stack")
def test_a_keyspace_without_tables_says_how_to_make_them() -> None:
    code, output = fail("bars", "AAPL", "--keyspace", "nothing_here")

    assert code == 2
    assert "tapeline init --keyspace nothing_here" in output


@pytest.mark.usefixtures("replayed")
def test_an_unknown_symbol_says_which_are_known_and_a_quiet_time_is_none() -> None:
    code, output = fail("bars", "NOBODY", *RANGE, "--keyspace", "replay")
    quiet = run(
        "bars",
        "TEST",
        "--to",
        "2020-01-01",
        "--from",
        "2019-01-01",
        "--keyspace",
        "replay",
        "--format",
        "csv",
    )

    assert code == 2
    assert "no bar of NOBODY in keyspace replay; it has COIN:TESTUSD, TEST." in output
    assert quiet.splitlines()[-1] == COLUMNS


@pytest.mark.usefixtures("replayed")
def test_a_checkpoint_is_not_deleted_without_a_yes(stack: Endpoints, tmp_path: Path) -> None:
    topic_id = topic_id_of(topic_admin(stack.bootstrap_servers), "replay")
    folder = tmp_path / topic_id / "cassandra" / "ingest"
    folder.mkdir(parents=True)

    code, output = fail(
        *("stream", "--topic", "replay", "--keyspace", "replay", "--reset-checkpoint"),
        *("--checkpoint-dir", str(tmp_path)),
    )

    assert code == 2
    assert "add --yes" in output
    assert folder.exists()


@pytest.mark.usefixtures("replayed")
def test_a_checkpoint_of_a_keyspace_that_is_gone_is_refused(
    stack: Endpoints, tmp_path: Path
) -> None:
    topic = "read_before"
    run("init", "--keyspace", "empty_one", "--topic", topic)
    topic_id = topic_id_of(topic_admin(stack.bootstrap_servers), topic)
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    producer.produce(topic, b"read by the query", partition=0)
    assert producer.flush(120) == 0
    checkpoint = tmp_path / topic_id / "cassandra" / "ingest"
    for log, text in (
        ("offsets", f'v1\n{{"batchWatermarkMs":0,"conf":{{}}}}\n{{"{topic}":{{"0":1}}}}'),
        ("commits", 'v1\n{"nextBatchWatermarkMs":0}'),
    ):
        (checkpoint / log).mkdir(parents=True)
        (checkpoint / log / "0").write_text(text)

    code, output = fail(
        *("stream", "--topic", topic, "--keyspace", "empty_one"),
        *("--checkpoint-dir", str(tmp_path)),
    )

    assert code == 2
    assert "read it again with --reset-checkpoint" in output


def symbols_of(address: str) -> list[str]:
    """Ask the demo's API, which may still be starting."""
    try:
        with urlopen(f"{address}v1/symbols", timeout=60) as answer:  # noqa: S310 - our own
            symbols: list[str] = json.load(answer)["symbols"]
            return symbols
    except OSError:
        return []


@pytest.mark.usefixtures("stack")
def test_the_demo_shows_live_bars_and_ends_all_it_started() -> None:
    process = start("demo")
    seen = wait_for(lambda: spark_drivers(process.pid))
    logs = Home(load_settings().home).logs
    for command, name in (
        ("produce", 'tapeline_producer_trades_total{outcome="accepted"}'),
        ("stream", "tapeline_stream_messages_total"),
    ):
        log_file = logs / f"{command}.log"
        wait_for(lambda f=log_file, n=name: metric(f.read_text(), n))

    assert process.stdout is not None
    found = (re.search(r"live at (http://\S+)", line) for line in process.stdout)
    address = next(match[1] for match in found if match)
    changes = (line for line in process.stdout if line.startswith("BINANCE:BTCUSDT"))
    first, second = next(changes), next(changes)
    symbols = wait_for(lambda: symbols_of(address))
    process.send_signal(signal.SIGINT)
    output = finish(process)

    assert "provisional" in first
    assert first != second
    assert "BINANCE:BTCUSDT" in symbols
    assert "The demo has ended" in output
    _, alive = psutil.wait_procs(seen, timeout=300)
    assert alive == []
    status = start("status", "--keyspace", "demo", "--topic", "demo").communicate()[0]
    assert "Kafka       127.0.0.1:" in status
    assert "Feed        " in status


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize("job", ["bronze", "silver", "gold", "finalize"])
def test_each_job_runs_alone_and_stops_at_sigterm(job: str, tmp_path: Path) -> None:
    process = start(
        *("stream", "--job", job, "--topic", "replay", "--keyspace", "replay", "--policy", "sip"),
        *("--checkpoint-dir", str(tmp_path / "checkpoint"), "--log-level", "DEBUG"),
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "event=streaming" in line:
            break
    seen = metric("".join(lines), "tapeline_stream_messages_total")
    process.send_signal(signal.SIGTERM)

    rest = finish(process)

    assert seen is not None
    assert "event=stopped" in rest


@pytest.mark.usefixtures("replayed")
def test_the_console_sink_prints_rows(tmp_path: Path) -> None:
    process = start(
        *("stream", "--job", "silver", "--sink", "console", "--topic", "replay"),
        *("--checkpoint-dir", str(tmp_path / "checkpoint")),
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "event=batch_ingested" in line:
            break
    process.send_signal(signal.SIGINT)

    finish(process)

    text = "".join(lines)
    assert "-- trades_silver" in text
    assert "COIN:TESTUSD" in text


def test_a_killed_demo_leaves_services_that_are_found_again(home: Home, tmp_path: Path) -> None:
    own = tmp_path / "home"
    own.mkdir()
    (own / "jars").symlink_to(home.jars.resolve())
    environment = {"TAPELINE_HOME": str(own)}
    process = start("demo", environment=environment)
    children = wait_for(
        lambda: [p for p, c in commands_below(process.pid).items() if "stream" in c]
    )
    before = {s.name: s.pid for s in read_state(Home(own)).services}

    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    try:
        # Our own commands notice that their parent has gone; the services stay and are used.
        psutil.wait_procs(children, timeout=300)
        assert not any(p.is_running() for p in children)
        after = {s.name: s.pid for s in read_state(Home(own)).services}
        assert after == before
        assert set(after) == {"kafka", "cassandra"}
        assert "local stack" in run("init", environment=environment)
    finally:
        stopped = run("down", environment=environment)
    assert stopped == "Stopped: kafka, cassandra.\n"
    assert not any(psutil.pid_exists(pid) for pid in before.values())
