"""`tapeline demo`: how soon is the second start there, and what does everything hold in memory?"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final
from urllib.parse import quote

import psutil
from cassandra import DriverException
from cassandra.cluster import Cluster, NoHostAvailable, Session

from bench.cpu import Usage, usage_of
from bench.ports import is_answering
from bench.services import LOOPBACK, Process, Services, fresh_services, tapeline

KEYSPACE: Final = "demo"
_FIRST_START_S: Final = 900.0
_START_S: Final = 300.0
_POLL_S: Final = 0.1
_ADDRESS: Final = re.compile(r"http://127\.0\.0\.1:\d+")
_FIVE_MINUTES: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to run; `minutes` until memory is taken."""

    minutes: float = 10.0
    rounds: int = 1


def run_demo(options: DemoOptions) -> Iterator[dict[str, Any]]:
    """Yield the result of each round: a first start, and a second one that goes on."""
    for round_number in range(options.rounds):
        with fresh_services(start=False) as services:
            first = _start(services, _FIRST_START_S)
            first.process.stop()
            second = _start(services, _START_S)
            time.sleep(options.minutes * 60)
            second.process.require()
            usage = usage_of(second.process.pid, shares=True)
            result = {
                "round": round_number,
                "first_start": first.times,
                "second_start": second.times,
                "minutes": options.minutes,
                "memory_mb": usage.rss_mb,
                "memory_shared_mb": usage.pss_mb,
                "cpu_s": usage.cpu_s,
                "parts_mb": {name: part.rss_mb for name, part in _parts(second.process).items()},
            }
            second.process.stop()
        print(_line(result))
        yield result


@dataclass(frozen=True, slots=True)
class _Started:
    process: Process
    times: dict[str, float]
    """Seconds from the command until each thing was there."""


def _start(services: Services, timeout_s: float) -> _Started:
    started_at = datetime.now(timezone.utc)
    began_s = time.monotonic()
    process = services.start("demo", tapeline("demo"))
    times: dict[str, float] = {}

    def passed() -> float:
        return round(time.monotonic() - began_s, 2)

    url = _wait(process, timeout_s, lambda: _address(process))
    _wait(process, timeout_s, lambda: is_answering(url))
    times["page_answers_s"] = passed()
    live = _LiveBars(url)
    state = json.loads((services.home / "stack.json").read_text(encoding="utf-8"))
    port = next(s["port"] for s in state["services"] if s["name"] == "cassandra")
    cluster = Cluster([LOOPBACK], port=port, connect_timeout=20)
    try:
        session = cluster.connect()
        while {"candles_move_s", "rows_in_gold_s"} - times.keys():
            process.require()
            if passed() > timeout_s:
                raise TimeoutError(process.failure())
            if "candles_move_s" not in times and live.have_moved():
                times["candles_move_s"] = passed()
            if "rows_in_gold_s" not in times and _has_new_rows(session, live.symbols, started_at):
                times["rows_in_gold_s"] = passed()
            time.sleep(_POLL_S)
    finally:
        cluster.shutdown()
    return _Started(process, times)


def _wait(process: Process, timeout_s: float, look: Any) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        process.require()
        if time.monotonic() > deadline:
            raise TimeoutError(process.failure())
        time.sleep(_POLL_S)
    return found


def _address(process: Process) -> str | None:
    found = _ADDRESS.search(process.log.read_text(encoding="utf-8", errors="replace"))
    return found[0] if found else None


class _LiveBars:
    """The newest bars as the page gets them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: dict[tuple[str, str], int] = {}
        self.symbols: list[str] = []

    def have_moved(self) -> bool:
        """Return whether a bar of the present has more trades than at an earlier look."""
        with suppress(OSError, ValueError):
            if not self.symbols:
                self.symbols = self._get("/v1/symbols")["symbols"]
            if self.symbols:
                return self._moved()
        return False

    def _moved(self) -> bool:
        now = datetime.now(timezone.utc)
        bars = self._get(f"/v1/bars/latest?symbols={quote(','.join(self.symbols))}")["bars"]
        moved = False
        for bar in bars:
            key = bar["symbol"], bar["window_start"]
            start = datetime.fromisoformat(bar["window_start"])
            if now - start < _FIVE_MINUTES:
                moved |= bar["trade_count"] > self._known.get(key, bar["trade_count"])
                self._known[key] = bar["trade_count"]
        return moved

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=5) as answer:
            return json.load(answer)


def _has_new_rows(session: Session, symbols: list[str], since: datetime) -> bool:
    """Return whether a bar of the present was written since the start."""
    now = datetime.now(timezone.utc)
    start = now - timedelta(
        minutes=now.minute % 5, seconds=now.second, microseconds=now.microsecond
    )
    query = (
        f"SELECT updated_at FROM {KEYSPACE}.trades_gold_5m "
        "WHERE symbol = %s AND period = %s AND window_start = %s"
    )
    with suppress(DriverException, NoHostAvailable):
        for symbol in symbols:
            row = session.execute(query, [symbol, start.date().replace(day=1), start]).one()
            if row and row.updated_at and row.updated_at.replace(tzinfo=timezone.utc) > since:
                return True
    return False


def _parts(process: Process) -> dict[str, Usage]:
    """Return what each child of the demo uses, by the name of its command."""
    found = {}
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):
            found[_name_of(child.cmdline())] = usage_of(child.pid)
    return found


def _name_of(command: list[str]) -> str:
    if "tapeline" in command:
        return command[command.index("tapeline") + 1]
    for name in ("cassandra", "kafka"):
        if any(name in argument.lower() for argument in command[-2:]):
            return name
    return command[0]


def _line(result: dict[str, Any]) -> str:
    times = result["second_start"]
    parts = ", ".join(f"{name} {mb:,.0f}" for name, mb in result["parts_mb"].items())
    return (
        f"  round {result['round']} demo, second start: page {times['page_answers_s']:.1f} s, "
        f"candles move {times['candles_move_s']:.1f} s, gold {times['rows_in_gold_s']:.1f} s; "
        f"memory after {result['minutes']:g} min {result['memory_mb']:,.0f} MB ({parts})"
    )
