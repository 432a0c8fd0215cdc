"""`tapeline watch` on a real API and a real receiver: each event at least once, none invented."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psutil
import pytest

from tapeline.client.api import Api
from tapeline.model.bar import Bar
from tapeline.model.gap import Gap, GapKind
from tapeline.model.times import to_micros
from tapeline.watch.judge import Judge
from tapeline.watch.outbox import Outbox
from tapeline.watch.rules import parse_rule
from tapeline.watch.run import gaps_since
from tests.commands import UNMEASURED, wait_for
from tests.pipeline import Pipeline
from tests.receiver import SECRET, Receiver, receiving
from tests.sample import a_bar, write_bars
from tests.served import ServedApi, served_api

START = datetime(2026, 11, 3, 14, 30, tzinfo=timezone.utc)
FIVE = timedelta(minutes=5)
RULES = """
[[rule]]
name = "final"
when = "AAPL final"

[[rule]]
name = "high"
when = "AAPL close > 280"

[[rule]]
name = "hole"
when = "AAPL gap"
"""


class Watch:
    """`tapeline watch` as a process that can be killed and started again."""

    def __init__(self, folder: Path, api: ServedApi, receiver: Receiver) -> None:
        self.folder = folder
        self.file = folder / "home" / "watches" / "default" / "outbox.sqlite"
        rules = folder / "rules.toml"
        rules.write_text(RULES, encoding="utf-8")
        self._command = [sys.executable, "-m", "tapeline", "watch", "--rules", str(rules)]
        self._command += ["--webhook", receiver.url, "--api", api.url]
        self._command += ["--since", f"{START:%Y-%m-%dT%H:%M:%SZ}"]
        self.start()

    def start(self) -> None:
        own = {
            "TAPELINE_HOME": str(self.folder / "home"),
            "TAPELINE_WATCH__SECRET": SECRET,
            "TAPELINE_WATCH__TIMEOUT_S": "2",
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **UNMEASURED, **own},
            )

    def kill(self) -> None:
        """End it by `kill -9`."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def waiting(self) -> int:
        """Return how many events are on the disk."""
        with closing(sqlite3.connect(self.file)) as file:
            return int(file.execute("SELECT count(*) FROM event").fetchone()[0])

    def size(self) -> int:
        return sum(file.stat().st_size for file in self.file.parent.iterdir())


@pytest.fixture
def api(pipeline: Pipeline) -> Iterator[ServedApi]:
    with served_api(pipeline.name) as api:
        yield api


def final(number: int, close: float = 270.0, revision: int = 1) -> Bar:
    """Return the final bar of a window, counted from `START`."""
    own = {"is_final": True, "is_complete": True, "revision": revision}
    prices = {"open": 270.0, "high": max(close, 270.0), "low": 260.0, "close": close}
    return a_bar(window_start=START + number * FIVE, **own, **prices)


def open_gap(topic: str) -> Gap:
    """Return a gap of AAPL that lasts."""
    since = to_micros(datetime.now(timezone.utc) - FIVE)
    return Gap("host-1", topic, "id", GapKind.DISCONNECTED, ("AAPL",), since, None, since)


def told(receiver: Receiver) -> dict[str, set[tuple[object, ...]]]:
    """Return what came, by the name of the rule; the same event twice is one."""
    found: dict[str, set[tuple[object, ...]]] = {}
    for event in receiver.taken:
        data = event["data"]
        if "bar" in data:
            bar = data["bar"]
            number = (datetime.fromisoformat(bar["window_start"]) - START) // FIVE
            what: tuple[object, ...] = number, bar["revision"]
        else:
            what = data["gap"]["producer"], data["gap"]["end"]
        found.setdefault(data["rule"], set()).add(what)
    return found


def test_a_receiver_fails_hangs_goes_and_comes_back_and_no_event_is_lost_or_invented(
    pipeline: Pipeline, api: ServedApi, tmp_path: Path
) -> None:
    written = 0
    high: set[int] = set()

    def write(many: int = 10) -> None:
        """Write final bars; the fifth of ten closes above 280, for this bar alone."""
        nonlocal written
        for _ in range(many):
            is_high = written % 10 == 4
            high.update({written} if is_high else ())
            write_bars(pipeline.client, final(written, 290.0 if is_high else 270.0))
            written += 1

    def expected() -> int:
        return written + len(high)

    write()
    with receiving() as receiver:
        watch = Watch(tmp_path, api, receiver)
        wait_for(lambda: len(receiver) == expected())
        size = watch.size()

        receiver.mode = 500
        write()
        wait_for(lambda: watch.waiting() == 11)
        watch.kill()
        write()  # while nobody watches
        receiver.mode = "hang"
        watch.start()
        wait_for(lambda: watch.waiting() == 22)
        watch.kill()  # amid an attempt
        receiver.mode = 200
        watch.start()
        wait_for(lambda: len(receiver) == expected())
        watch.kill()

        receiver.stop()
        watch.start()
        api.kill()
        write()
        write_bars(pipeline.client, final(3, revision=2))
        api.start()
        pipeline.client.write_gaps([open_gap(pipeline.name)])
        wait_for(lambda: watch.waiting() == 13)
        memory = psutil.Process(watch.process.pid).memory_info().rss
        receiver.start()
        wait_for(lambda: len(receiver) == expected() + 2)
        wait_for(lambda: watch.waiting() == 0)
        grown = psutil.Process(watch.process.pid).memory_info().rss - memory
        assert watch.stop() == 0

    assert told(receiver) == {
        "final": {*((number, 1) for number in range(written)), (3, 2)},
        "high": {(number, 1) for number in high},
        "hole": {("host-1", None)},
    }
    assert len(receiver.ids) == expected() + 2  # one thing that happened has one id
    assert receiver.wrong == []
    assert max(receiver.attempts.values()) > 1
    assert watch.size() <= size + 256 * 1024
    assert grown < 20 * 2**20
    assert SECRET not in watch.log()
    assert "Traceback" not in watch.log()


def test_gaps_of_any_age_are_told_however_many_there_are(
    pipeline: Pipeline, api: ServedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an answer that is cut, the rest is asked for; two gaps begin in one millisecond."""
    monkeypatch.setattr("tapeline.watch.run._AT_ONCE", 3)
    now = datetime.now(timezone.utc)
    beginnings = [timedelta(hours=hours) for hours in (1, 1, 2, 3, 3, 4, 240, 700, 800)]
    pipeline.client.write_gaps(
        Gap(
            *(f"host-{number}", pipeline.name, "id", GapKind.DISCONNECTED, ("AAPL",)),
            *(to_micros(now - before), to_micros(now - before + FIVE), to_micros(now - before)),
        )
        for number, before in enumerate(beginnings)
    )
    outbox = Outbox(tmp_path / "outbox.sqlite", 100)
    judge = Judge([parse_rule("gap")], outbox, now - timedelta(hours=750))

    for _ in range(2):
        judge.gaps(gaps_since(Api(api.url), judge.gaps_since))

    producers = []
    while outbox.pending:
        event = outbox.next()
        assert event is not None
        producers.append(json.loads(event.body)["data"]["gap"]["producer"])
        outbox.delivered(event)
    assert sorted(producers) == [f"host-{number}" for number in range(8)]
