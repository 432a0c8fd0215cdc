"""A stream in processes of its own on a load of its own, and what its tables must hold.

What must be there is worked out from the load in plain Python, by `bench.truth`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timezone
from pathlib import Path

from bench.check import check_tables
from bench.into_kafka import Loaded, fill
from bench.load import START_MS, LoadTrade, SeededLoad
from tapeline.kafka.topics import create_topics, delete_topic, topic_admin, topic_id_of
from tapeline.local.discovery import Endpoints
from tapeline.model.times import to_millis
from tapeline.program.process import SUPERVISED
from tapeline.program.settings import load_settings
from tapeline.storage.cassandra_client import CassandraClient
from tests.live_feed import TOKEN, assert_token_nowhere

LOG_OF_STEPS = ("event=batch_ingested", "event=finalized")
"""What a stream logs once it has written something."""
_STRETCH = 50


@dataclass(frozen=True, slots=True)
class StretchedLoad:
    """A seeded load, late and repeated trades in it, over fifty times the time of its trades.

    `count` of 20,000 takes 65 minutes: 13 windows of each symbol. None is later than the watermark
    allows.
    """

    count: int
    symbols: int
    seed: int

    @property
    def name(self) -> str:
        """What a report calls it."""
        return f"seed {self.seed}"

    def trades(self) -> Iterator[LoadTrade]:
        """Yield the trades in the order in which they arrive."""
        for trade in SeededLoad(self.count, self.symbols, self.seed).trades():
            after_ms = trade.event_time_ms - START_MS
            yield trade._replace(event_time_ms=START_MS + after_ms * _STRETCH)


@dataclass
class PacedLoad:
    """A load that comes as a feed would bring it, `per_s` trades a second."""

    whole: StretchedLoad
    per_s: int
    brought: int = 0
    """How many have come so far."""

    @property
    def name(self) -> str:
        """What a report calls it."""
        return f"{self.whole.name} at {self.per_s}/s"

    def trades(self) -> Iterator[LoadTrade]:
        """Yield each trade when it is due."""
        began = time.monotonic()
        for number, trade in enumerate(self.whole.trades()):
            time.sleep(max(0.0, began + number / self.per_s - time.monotonic()))
            self.brought = number + 1
            yield trade


@dataclass
class StreamRun:
    """A topic that holds a load, a keyspace, and the processes that read one into the other."""

    name: str
    folder: Path
    load: StretchedLoad | PacedLoad
    topic_id: str
    client: CassandraClient
    settings: Mapping[str, str]
    filling: Future[Loaded]
    checkpoint_dir: str | None = None
    """Where the checkpoint lies, if not in the folder."""
    within: list[str] = field(default_factory=list)
    """What each process is started by, e.g. a command that enters a namespace."""
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def loaded(self) -> Loaded:
        """What is in Kafka, once all of it is."""
        return self.filling.result()

    @property
    def arguments(self) -> list[str]:
        """What follows `tapeline stream`."""
        return [
            *("--topic", self.name, "--keyspace", self.name, "--trigger", "0 seconds"),
            *("--checkpoint-dir", self.checkpoint_dir or str(self.folder / "checkpoint")),
            "--until-final",
        ]

    @property
    def environment(self) -> dict[str, str]:
        """Small batches and chunks, so that there are many moments to be killed at."""
        return {
            **self.settings,
            "FINNHUB_API_KEY": TOKEN,
            "TAPELINE_PROFILE": "small",
            "TAPELINE_METRICS__STREAM_PORT": "0",
        }

    def start(self) -> subprocess.Popen[str]:
        """Start the stream as a user does."""
        return self._start("-m", "tapeline", "stream", *self.arguments)

    def start_with_kill(self, point: str, at_pass: int, victim: int = 0) -> subprocess.Popen[str]:
        """Start the stream with a kill at a point, of itself if not told; see `kill_points`."""
        killing = [point, str(at_pass), str(self.marker), str(victim)]
        return self._start("-m", "tests.kill_points", *killing, *self.arguments)

    @property
    def marker(self) -> Path:
        """What the last kill has left."""
        return self.folder / "marker.json"

    def log_of(self, process: subprocess.Popen[str]) -> str:
        """Return what a process has printed so far."""
        path = self._log(self._processes.index(process))
        return path.read_text(encoding="utf-8", errors="replace")

    def committed(self) -> int:
        """Return how many messages are in silver, as the stream says."""
        progress = self.client.progress(self.topic_id).values()
        return sum(p.committed_offset + 1 for p in progress)

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def check(self) -> None:
        """Require that every layer holds what the load makes, no more and no less.

        Raises:
            WrongOutputError: of bronze, a window's trades in silver or a bar, with all that is
                wrong.
            AssertionError: of silver's keys and revisions.
        """
        check_tables(
            self.client.session,
            self.name,
            self.loaded.truth,
            self.loaded.offsets,
            self.loaded.topic_id,
        )
        whole = self.load.whole if isinstance(self.load, PacedLoad) else self.load
        wanted = {
            (t.symbol, t.event_time_ms, t.trade_id, t.price, t.volume) for t in whole.trades()
        }
        rows = self.client.session.execute(
            f"SELECT symbol, event_time, trade_id, price, volume FROM {self.name}.trades_silver"
        )
        found = [
            (symbol, to_millis(at.replace(tzinfo=timezone.utc)), trade_id, price, volume)
            for symbol, at, trade_id, price, volume in rows
        ]
        assert len(found) == len(wanted) == self.loaded.truth.trades
        assert set(found) == wanted
        assert_token_nowhere(self.folder)
        # No trade is later than the watermark, so no bar may have been final before its last.
        for table in ("trades_gold_5m", "trades_gold_1h"):
            rows = self.client.session.execute(f"SELECT revision FROM {self.name}.{table}")
            assert {row.revision for row in rows} == {1}

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        # It stops when we are gone, however we went.
        environment = {**os.environ, **self.environment, SUPERVISED: "1"}
        with self._log(len(self._processes)).open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                [*self.within, sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def _log(self, number: int) -> Path:
        return self.folder / f"stream-{number}.log"


@contextmanager
def stream_run(
    endpoints: Endpoints,
    folder: Path,
    load: StretchedLoad | PacedLoad,
    settings: Mapping[str, str],
) -> Iterator[StreamRun]:
    """Make a topic with a load in it and a keyspace, for a while.

    Args:
        endpoints: of Kafka and Cassandra.
        folder: of checkpoint, marker and logs.
        load: the whole of it is in Kafka at once, with its end, unless it is paced.
        settings: variables of the stream.
    """
    name = f"c{uuid.uuid4().hex[:12]}"
    target = load_settings().with_target(topic=name, keyspace=name)
    admin = topic_admin(endpoints.bootstrap_servers)
    with ExitStack() as stack:
        create_topics(admin, target.kafka)
        stack.callback(delete_topic, admin, name)
        client = CassandraClient(
            target.cassandra, endpoints.cassandra_host, endpoints.cassandra_port
        )
        stack.callback(client.close)
        client.create_schema()
        stack.callback(client.drop_schema)
        feeder = stack.enter_context(ThreadPoolExecutor(1))
        filling = feeder.submit(fill, endpoints.bootstrap_servers, name, load)
        if not isinstance(load, PacedLoad):
            filling.result()
        topic_id = topic_id_of(admin, name)
        run = StreamRun(name, folder, load, topic_id, client, settings, filling)
        stack.callback(run.end)
        yield run
