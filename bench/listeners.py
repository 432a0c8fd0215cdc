"""Many listeners on the live stream: does any miss a final bar, and how fresh are bars?

Needs a running `tapeline demo` (or `tapeline api` on a live feed):

    python bench/listeners.py --keyspace demo --listeners 100 --seconds 300

Freshness is the time from the producer's receipt of the newest trade in a bar to the event at
the listener: Kafka, Spark, Cassandra and API. An event says how many trades its bar has; when the
last of so many was received is looked up in silver afterwards. One listener in `--sampled` takes
times, so that measuring does not slow what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import quote, urlsplit

import psutil

import tapeline

Window = tuple[str, str]
"""Symbol and start."""
Final = tuple[str, str, int]
"""Symbol, start of the window, revision."""
_AT_ONCE_S = 2.0
"""The newest bars come so soon after joining."""


@dataclass
class Heard:
    """What one listener got."""

    is_sampled: bool
    events: int = 0
    finals: set[Final] = field(default_factory=set)
    news: set[Final] = field(default_factory=set)
    """The finals that did not come at once."""
    updates: list[tuple[Window, int, float]] = field(default_factory=list)
    """Window, trades in it, and when the event came (s since the epoch)."""
    trades: dict[Window, int] = field(default_factory=dict)
    was_cut: bool = False

    def take(self, line: bytes, joined_s: float) -> None:
        """Take the data of one event `bar`."""
        self.events += 1
        is_final = b'"is_final":true' in line
        if not (is_final or self.is_sampled):
            return
        bar = json.loads(line.removeprefix(b"data: "))
        if is_final:
            final = bar["symbol"], bar["window_start"], bar["revision"]
            if final not in self.finals and joined_s > _AT_ONCE_S:
                self.news.add(final)
            self.finals.add(final)
            return
        key = bar["symbol"], bar["window_start"]
        # The newest bars come at once to whoever joins; they are not news.
        if key in self.trades and self.trades[key] < bar["trade_count"] and joined_s > _AT_ONCE_S:
            self.updates.append((key, bar["trade_count"], time.time()))
        self.trades[key] = bar["trade_count"]


async def listen(url: str, heard: Heard, seconds: float) -> None:
    """Read events over HTTP/1.0, which sends them as they are."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
    writer.write(f"GET {parts.path}?{parts.query} HTTP/1.0\r\n\r\n".encode())
    began = time.monotonic()
    is_bar = False
    try:
        while (left_s := began + seconds - time.monotonic()) > 0:
            line = await asyncio.wait_for(reader.readline(), left_s)
            if not line:
                heard.was_cut = True
                return
            if line.startswith(b"event: "):
                is_bar = line == b"event: bar\n"
            elif is_bar and line.startswith(b"data: "):
                heard.take(line, time.monotonic() - began)
    except (TimeoutError, asyncio.TimeoutError):
        return
    finally:
        writer.close()


async def watch_memory(process: psutil.Process, seconds: float) -> list[float]:
    """Return the process's resident memory in MB, every ten seconds."""
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found.append(process.memory_info().rss / 2**20)
        await asyncio.sleep(10)
    return found


def server_of(port: int) -> psutil.Process:
    """Return the process that listens on a port of this machine."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            return psutil.Process(connection.pid)
    message = f"Nothing listens on port {port}: start `tapeline demo` first."
    raise SystemExit(message)


def symbols_of(url: str) -> list[str]:
    """Return every symbol that has bars."""
    with urllib.request.urlopen(f"{url}/v1/symbols") as answer:
        symbols: list[str] = json.load(answer)["symbols"]
    return symbols


def ages_of(every: list[Heard], keyspace: str) -> list[float]:
    """Return the freshness (s) of each update, in order."""
    receipts: dict[Window, list[float]] = {}
    ages = []
    for window, trades, came_at in (update for heard in every for update in heard.updates):
        if window not in receipts:
            start = datetime.fromisoformat(window[1].replace("Z", "+00:00"))
            end = start + timedelta(minutes=5)
            rows = tapeline.read_trades(window[0], start, end, keyspace=keyspace)
            receipts[window] = sorted(t.timestamp() for t in rows["received_at"].to_pylist())
        if trades <= len(receipts[window]):
            ages.append(came_at - receipts[window][trades - 1])
    return sorted(ages)


async def measure(options: argparse.Namespace, symbols: list[str]) -> None:
    """Run all listeners and print what they got."""
    names = quote(",".join(symbols))
    url = f"{options.url}/v1/stream?symbols={names}&interval=5m"
    every = [Heard(n % options.sampled == 0) for n in range(options.listeners)]
    memory, *_ = await asyncio.gather(
        watch_memory(server_of(urlsplit(options.url).port or 80), options.seconds),
        *(listen(url, heard, options.seconds) for heard in every),
    )
    finals = set().union(*(heard.news for heard in every))
    missed = sum(len(finals - heard.finals) for heard in every)
    ages = ages_of(every, options.keyspace)
    cuts = statistics.quantiles(ages, n=100)
    print(f"{options.listeners} listeners, {len(symbols)} symbols, {options.seconds:.0f} s")
    print(f"events {sum(h.events for h in every):,}; cut off {sum(h.was_cut for h in every)}")
    print(f"final bars {len(finals):,}; missed by any listener {missed}")
    print(f"freshness p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s, p99 {cuts[98]:.2f} s", end="")
    print(f" of {len(ages):,} updates")
    print(f"memory of the API {memory[0]:.0f} MB at first, {memory[-1]:.0f} MB at last", end="")
    print(f", {max(memory):.0f} MB at most")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8700")
    parser.add_argument("--keyspace", default="demo")
    parser.add_argument("--listeners", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--sampled", type=int, default=20, help="one in so many takes times")
    options = parser.parse_args()
    asyncio.run(measure(options, symbols_of(options.url)))


if __name__ == "__main__":
    main()
