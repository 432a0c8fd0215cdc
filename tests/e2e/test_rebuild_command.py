"""`tapeline rebuild` as a user runs it, and drivers that meet on one checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cassandra.cluster import Cluster, Session

from tapeline import read_bars
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.lock import only_one
from tapeline.program.rule_file import read_policy
from tests.commands import fail, finish, run, start, start_in_background, wait_for
from tests.hand import TAPE, TRADES
from tests.rule_files import ROUND_LOTS

INTO = "rebuilt"
TARGET = ("--keyspace", INTO, "--topic", f"replay_{INTO}", "--policy", "sip")
DAY = datetime(2024, 3, 15, tzinfo=timezone.utc), datetime(2024, 3, 16, tzinfo=timezone.utc)
VENDOR = """window_start,symbol,open,high,low,close,volume
2024-03-15T14:30:00Z,TEST,10,10.02,9.95,10.02,600
2024-03-15T14:35:00Z,TEST,10.02,10.02,10.02,10.02,5
2024-03-15T14:40:00Z,TEST,10.02,99,10.02,99,1060
2024-03-15T16:30:00Z,TEST,99,99,10.3,10.3,100
"""
WINDOW = datetime(2024, 3, 15, 14, 30, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def replayed(stack: Endpoints) -> Endpoints:
    """The hand tape in a keyspace of its own."""
    run("replay", str(TAPE), "--policy", "sip", "--into", INTO)
    return stack


@contextmanager
def cql(endpoints: Endpoints) -> Iterator[Session]:
    """Connect to the keyspace."""
    cluster = Cluster([endpoints.cassandra_host], port=endpoints.cassandra_port, protocol_version=5)
    try:
        yield cluster.connect(INTO)
    finally:
        cluster.shutdown()


def change_every_bar(endpoints: Endpoints) -> None:
    with cql(endpoints) as session:
        for row in session.execute("SELECT symbol, period, window_start FROM trades_gold_5m"):
            session.execute(
                "UPDATE trades_gold_5m SET volume = 12345 "
                "WHERE symbol = %s AND period = %s AND window_start = %s",
                (row.symbol, row.period, row.window_start),
            )


def volumes() -> dict[tuple[str, datetime], float]:
    table = read_bars(["TEST", "COIN:TESTUSD"], "5m", *DAY, keyspace=INTO)
    return {(row["symbol"], row["window_start"]): row["volume"] for row in table.to_pylist()}


def test_a_rebuild_that_is_killed_goes_on_where_it_was(replayed: Endpoints, home: Home) -> None:
    before = volumes()
    change_every_bar(replayed)
    small = {"TAPELINE_STREAM__FINALIZE_MAX_WINDOWS": "1"}  # an hour at a time
    killed = start_in_background("rebuild", "gold", *TARGET, environment=small)
    (file,) = wait_for(lambda: list(home.rebuilds.glob(f"{INTO}-gold-*.json")))
    killed.kill()
    killed.communicate()
    midway = volumes()

    output = run("rebuild", "gold", *TARGET, environment=small)

    assert 0 < sum(volume == 12345 for volume in midway.values()) < len(before)
    assert "Going on with the rebuild that began at" in output
    assert "Gold: 5 windows compared; 5 bars of five minutes and" in output
    assert volumes() == before
    assert not file.exists()


def test_silver_is_rebuilt_and_the_command_says_what_it_did(replayed: Endpoints) -> None:
    with cql(replayed) as session:
        session.execute("TRUNCATE trades_silver")

        output = run("rebuild", "silver", *TARGET)

        assert len(list(session.execute("SELECT trade_id FROM trades_silver"))) == TRADES
    assert f"Silver: {TRADES} messages of bronze written again." in output
    assert "Gold: 5 windows compared; 0 bars of five minutes and 0 of one hour written." in output


@pytest.mark.usefixtures("replayed")
def test_a_policy_that_was_forgotten_is_asked_for() -> None:
    code, output = fail("rebuild", "gold", *TARGET[:4])

    assert code == 2
    assert "Keyspace rebuilt has bars of policy sip: keep it with --policy sip" in output


@pytest.mark.usefixtures("replayed")
def test_a_second_rebuild_of_a_keyspace_is_refused(home: Home) -> None:
    with only_one(home, f"{INTO}.rebuild"):
        code, output = fail("rebuild", "gold", *TARGET)

    assert (code, "Another command is working on rebuilt.rebuild" in output) == (2, True)


def test_a_second_driver_on_a_checkpoint_is_refused_whatever_its_home(
    replayed: Endpoints, tmp_path: Path
) -> None:
    folder = ("--checkpoint-dir", str(tmp_path / "checkpoint"))
    elsewhere = {
        "TAPELINE_HOME": str(tmp_path / "home"),
        "TAPELINE_KAFKA__BOOTSTRAP_SERVERS": replayed.bootstrap_servers,
        "TAPELINE_CASSANDRA__HOST": replayed.cassandra_host,
        "TAPELINE_CASSANDRA__PORT": str(replayed.cassandra_port),
    }
    first = start("stream", "--job", "silver", *TARGET, *folder)
    assert first.stdout is not None
    for line in first.stdout:
        if "event=streaming" in line:
            break

    code, output = fail("stream", "--job", "silver", *TARGET, *folder, environment=elsewhere)
    first.terminate()
    finish(first)

    assert (code, "Another driver works on the checkpoint" in output) == (2, True)


def test_bars_are_made_again_by_a_file_of_rules_and_other_rules_are_refused_then(
    replayed: Endpoints, tmp_path: Path
) -> None:
    del replayed
    rules = {**json.loads(ROUND_LOTS.read_text()), "carry_open": True}
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(rules))
    file = str(path)
    name = read_policy(file).name
    where, other = TARGET[:4], ("--policy", file)
    for command in (("stream", *where), ("replay", str(TAPE), "--into", INTO)):
        code, output = fail(*command, *other)
        assert code == 2
        assert (
            f"Keyspace rebuilt has bars of policy sip, and {name} was asked for: keep them with "
            "--policy sip, or first make them again with `tapeline rebuild gold --keyspace rebuilt "
            f"--policy {file}`."
        ) in output

    try:
        output = run("rebuild", "gold", *where, *other)
        assert "Gold: 5 windows compared; 5 bars of five minutes and" in output
        # Worked by hand in tests/data/README.md.
        assert prices("5m") == {
            ("TEST", "14:30"): (10.0, 10.02, 9.95, 10.02, 600.0, name),
            ("TEST", "14:35"): (10.02, 10.02, 10.02, 10.02, 5.0, name),
            ("TEST", "14:40"): (10.02, 99.0, 10.02, 99.0, 1060.0, name),
            ("COIN:TESTUSD", "15:00"): (None, None, None, None, 0.3, name),
            ("TEST", "16:30"): (99.0, 99.0, 10.3, 10.3, 100.0, name),
        }
        assert prices("1h")["TEST", "16:00"] == (99.0, 99.0, 10.3, 10.3, 100.0, name)
        assert prices("1h")["TEST", "14:00"] == (10.0, 99.0, 9.95, 99.0, 1665.0, name)
        vendor = tmp_path / "vendor.csv"
        vendor.write_text(VENDOR)
        run("audit", *where, *other, "--against", str(vendor))
        code, output = fail("audit", *where)
        assert (code, f"all or sip or sip+oddlot │ {name}" in output) == (1, True), output
        code, output = fail("stream", *TARGET)
        said = f"Keyspace rebuilt has bars of policy {name}, and sip was asked for"
        assert (code, said in output) == (2, True)
    finally:
        run("rebuild", "gold", *TARGET)
    assert {values[-1] for values in prices("5m").values()} == {"sip"}


def prices(interval: str) -> dict[tuple[str, str], tuple[float | str | None, ...]]:
    table = read_bars(["TEST", "COIN:TESTUSD"], interval, *DAY, keyspace=INTO, detail=True)
    names = ("open", "high", "low", "close", "volume", "policy")
    return {
        (row["symbol"], f"{row['window_start']:%H:%M}"): tuple(row[name] for name in names)
        for row in table.to_pylist()
    }
