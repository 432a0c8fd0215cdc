"""Requests per second of the API, beside the bare Cassandra driver reading the same rows.

Needs wrk on the PATH, a running `tapeline api`, and a keyspace with bars:

    python bench/api_load.py --url http://127.0.0.1:8700 --keyspace demo --symbol AAPL

Both ask for the same day of five-minute bars and for the newest bar, from as many connections
at once. The driver's figure is what a program could reach that needs no HTTP, JSON or checks.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import threading
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone

from tapeline.bar import Interval
from tapeline.local.discovery import find_endpoints
from tapeline.settings import load_settings
from tapeline.storage.cassandra_client import CassandraClient

CONNECTIONS = 16


def load(url: str, seconds: int) -> tuple[float, str, int]:
    """Return requests/s, the 99th percentile of latency, and failed requests, by wrk."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    p99 = re.search(r"99%\s+(\S+)", output)[1]
    failures = re.findall(r"(?:Non-2xx.*?: |connect |read |write |timeout )(\d+)", output)
    failed = sum(map(int, failures))
    return rate, p99, failed


def drive(
    client: CassandraClient, symbol: str, start: datetime, end: datetime, seconds: int
) -> float:
    """Return reads/s of the driver from as many threads."""
    counts = [0] * CONNECTIONS
    until = time.monotonic() + seconds

    def work(n: int) -> None:
        while time.monotonic() < until:
            list(client.bars(symbol, Interval.FIVE_MINUTES, start, end))
            counts[n] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def main() -> None:
    """Read the options, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8700")
    parser.add_argument("--keyspace", default="demo")
    parser.add_argument("--symbol", default="AAPL")
    parser.add_argument("--end", help="ISO time, UTC; now by default")
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        message = "wrk is not on the PATH: install it (Debian's package wrk)."
        raise SystemExit(message)
    end = (
        datetime.fromisoformat(options.end).replace(tzinfo=timezone.utc)
        if options.end
        else datetime.now(timezone.utc)
    )
    settings = load_settings().with_target(keyspace=options.keyspace)
    endpoints = find_endpoints(settings)
    with closing(
        CassandraClient(settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port)
    ) as client:
        for what, length in (("a day", timedelta(days=1)), ("15 minutes", timedelta(minutes=15))):
            start = end - length
            rows = len(list(client.bars(options.symbol, Interval.FIVE_MINUTES, start, end)))
            query = f"interval=5m&start={start:%Y-%m-%dT%H:%M:%SZ}&end={end:%Y-%m-%dT%H:%M:%SZ}"
            url = f"{options.url}/v1/bars/{options.symbol}?{query}"
            rate, p99, failed = load(url, options.seconds)
            bare = drive(client, options.symbol, start, end, options.seconds)
            print(f"{what} of 5m bars, {rows} rows: {rate:,.0f} requests/s, p99 {p99}, ", end="")
            print(f"failed {failed}; driver {bare:,.0f} reads/s, ratio {rate / bare:.2f}")
        names = options.symbol
        rate, p99, failed = load(f"{options.url}/v1/bars/latest?symbols={names}", options.seconds)
        print(f"latest bar: {rate:,.0f} requests/s, p99 {p99}, failed {failed}")


if __name__ == "__main__":
    main()
