"""Requests a second of the API, beside the bare driver reading the same rows."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final
from urllib.parse import quote

from cassandra.cluster import Session

from bench.contestants import Contestant, Target, start
from bench.into_kafka import Loaded, fill
from bench.load import START_MS, SeededLoad, symbol_name
from bench.ports import free_port, is_answering
from bench.services import LOOPBACK, Services, fresh_services, tapeline, wait_until

TOPIC: Final = "bench_api"
SYMBOL: Final = symbol_name(0)
_LONGEST_S: Final = 1200.0
_START_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """What to run; `seconds` for each kind of request."""

    seconds: int = 20
    connections: int = 16
    trades: int = 1_000_000
    """Their bars are read: those of an hour and five minutes for a million."""


def run_api(options: ApiOptions) -> Iterator[dict[str, Any]]:
    """Yield the result of each kind of request. Needs wrk on the PATH."""
    if shutil.which("wrk") is None:
        message = "wrk is not on the PATH: install it (Debian's package wrk)."
        raise SystemExit(message)
    keyspace = Contestant.TAPELINE.keyspace
    with fresh_services() as services:
        services.run("init", "--topic", TOPIC, "--keyspace", keyspace)
        loaded = fill(services.bootstrap_servers, TOPIC, SeededLoad(options.trades))
        _make_bars(services, loaded)
        port = free_port()
        url = f"http://{LOOPBACK}:{port}"
        api = ["api", "--topic", TOPIC, "--keyspace", keyspace, "--port", str(port)]
        services.start("api", tapeline(*api))
        wait_until("the API answers", lambda: is_answering(url), _START_S)
        with services.session() as session:
            for result in _each(session, url, keyspace, options):
                print(
                    f"  {result['what']}, {result['rows']} rows: {result['per_s']:,.0f} requests/s,"
                    f" p99 {result['p99']}; driver {result['driver_per_s']:,.0f} reads/s"
                )
                yield result


def _make_bars(services: Services, loaded: Loaded) -> None:
    target = Target(TOPIC, loaded.topic_id, until_end=True)
    stream = start(services, Contestant.TAPELINE, target)
    wait_until("every bar is final", lambda: not stream.is_running(), _LONGEST_S)
    stream.require()


def _each(
    session: Session, url: str, keyspace: str, options: ApiOptions
) -> Iterator[dict[str, Any]]:
    first = datetime.fromtimestamp(START_MS / 1000, timezone.utc)
    for what, length in (("all bars", timedelta(days=1)), ("15 minutes", timedelta(minutes=15))):
        end = first + length
        query = f"interval=5m&start={first:%Y-%m-%dT%H:%M:%SZ}&end={end:%Y-%m-%dT%H:%M:%SZ}"
        path = f"{url}/v1/bars/{quote(SYMBOL)}?{query}"
        rows, driver = _drive(session, keyspace, first, end, options)
        yield {"what": what, "rows": rows, "driver_per_s": driver, **_load(path, options)}


def _load(url: str, options: ApiOptions) -> dict[str, Any]:
    """Return requests/s and the 99th percentile of latency, by wrk.

    Raises:
        RuntimeError: a request failed.
    """
    command = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency", url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    failures = re.findall(r"(?:Non-2xx.*?: |connect |read |write |timeout )(\d+)", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p99 = re.search(r"99%\s+(\S+)", output)
    if any(map(int, failures)) or rate is None or p99 is None:
        message = f"requests failed:\n{output}"
        raise RuntimeError(message)
    return {"per_s": float(rate[1]), "p99": p99[1]}


def _drive(
    session: Session, keyspace: str, start: datetime, end: datetime, options: ApiOptions
) -> tuple[int, float]:
    """Return the rows of an answer, and reads/s of the driver from as many threads."""
    statement = session.prepare(
        f"SELECT * FROM {keyspace}.trades_gold_5m "
        "WHERE symbol = ? AND period = ? AND window_start >= ? AND window_start < ?"
    )
    key = SYMBOL, start.date().replace(day=1), start, end
    rows = len(list(session.execute(statement, key)))
    counts = [0] * options.connections
    until = time.monotonic() + options.seconds

    def work(n: int) -> None:
        while time.monotonic() < until:
            list(session.execute(statement, key))
            counts[n] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(options.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rows, sum(counts) / options.seconds
