"""The commands of docs/backup.md, on a stack of this test alone that loses its data."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tapeline import read_bars
from tapeline.local.home import Home
from tapeline.model.bar import Interval
from tests.commands import ROOT, TIMEOUT_S, fail, run
from tests.hand import TAPE, TRADES, hand_bars

KEYSPACE = "kept"
TOPIC = f"replay_{KEYSPACE}"
TARGET = ("--keyspace", KEYSPACE, "--topic", TOPIC)
DAY = (datetime(2024, 3, 15, tzinfo=timezone.utc), datetime(2024, 3, 16, tzinfo=timezone.utc))
VALUES = ("open", "high", "low", "close", "volume", "notional", "trade_count")


def commands_of_docs() -> list[str]:
    """Return the commands of the local stack: how to back up, and how to restore."""
    text = (ROOT / "docs" / "backup.md").read_text(encoding="utf-8")
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def first(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home without a stack yet; whichever the test leaves running is stopped."""
    first = new_home(tmp_path / "first machine", home)
    monkeypatch.setenv("TAPELINE_HOME", str(first.root))
    monkeypatch.setenv("TAPELINE_PROFILE", "small")
    monkeypatch.setenv("BACKUP", str(tmp_path / "backup.tar.gz"))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "tapeline").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tapeline "$@"\n')
    (programs / "tapeline").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    yield first
    run("down")


def new_home(root: Path, with_jars: Home) -> Home:
    root.mkdir()
    (root / "jars").symlink_to(with_jars.jars)
    return Home(root)


def as_documented(script: str) -> str:
    """Run a block of the docs as a shell does, with the keyspace and topic of this test."""
    for command in ("init", "audit"):
        script = script.replace(f"tapeline {command}", f"tapeline {command} {' '.join(TARGET)}")
    ran = subprocess.run(
        ["/bin/sh", "-euc", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def assert_bars_are_those_worked_by_hand() -> None:
    for interval in (Interval.FIVE_MINUTES, Interval.ONE_HOUR):
        wanted = hand_bars(interval)
        symbols = sorted({symbol for symbol, _ in wanted})
        table = read_bars(symbols, interval.value, *DAY, keyspace=KEYSPACE, exact=True, detail=True)
        found = {(row["symbol"], row["window_start"]): row for row in table.to_pylist()}
        assert {k: {name: row[name] for name in VALUES} for k, row in found.items()} == wanted
        assert all(row["is_final"] for row in found.values())


def assert_audited(output: str) -> None:
    """All of the tape was compared, from Kafka's bytes to the hours, and nothing differs."""
    found = re.findall(r"│ (\w[^│]*?) +│ +(\d+) │ +(\d+) │ +(\d+) │ +(\d+) │", output)
    five, hours = (len(hand_bars(i)) for i in (Interval.FIVE_MINUTES, Interval.ONE_HOUR))
    assert found == [
        ("Kafka → bronze", str(TRADES), "0", "0", "0"),
        ("bronze → silver, quarantine", str(TRADES), "0", "0", "0"),
        ("silver → 5m bars", str(five), "0", "0", "0"),
        ("5m bars → 1h bars", str(hours), "0", "0", "0"),
    ]


def test_a_backup_of_the_folder_is_the_same_on_another_machine_and_a_part_is_made_again(
    first: Home,
    home: Home,
    turn: Callable[[], AbstractContextManager[None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    back_up, restore = commands_of_docs()
    with turn():
        run("up")
    run("replay", str(TAPE), "--policy", "sip", "--into", KEYSPACE)
    with turn():
        as_documented(back_up)  # which starts it again
    run("down")
    shutil.rmtree(first.data)

    second = new_home(tmp_path / "another machine", home)
    monkeypatch.setenv("TAPELINE_HOME", str(second.root))
    with turn():
        assert_audited(as_documented(restore))
    assert_bars_are_those_worked_by_hand()

    run("down")
    shutil.rmtree(second.data / "cassandra")
    with turn():
        run("up")
    run("init", *TARGET)
    run("stream", *TARGET, "--policy", "sip", "--reset-checkpoint", "--until-final")
    assert_audited(run("audit", *TARGET))
    assert_bars_are_those_worked_by_hand()

    run("down")
    shutil.rmtree(second.data / "kafka")
    with turn():
        run("up")
    run("init", *TARGET)
    assert_bars_are_those_worked_by_hand()
    code, said = fail("audit", *TARGET)  # until a trade of the new topic has been read
    assert (code, "holds nothing of topic" in said) == (2, True)
