"""A tape that is played into the cluster, and the drivers that read it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable

from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.local.home import Home
from tapeline.local.service import LOOPBACK
from tapeline.model.errors import UsageError
from tapeline.program.settings import load_settings
from tapeline.simulator.tape import Tape
from tapeline.storage.cassandra_client import CassandraClient
from tests.cluster.member import Member, own_ports
from tests.cluster.nodes import ADDRESSES
from tests.cluster.spark import Host
from tests.cluster.whole import Whole
from tests.commands import run, wait_for
from tests.stream_runs import StretchedLoad

NAME = "cluster"
AWAY_S = 15.0
BACK_S = 600.0
END_S = 900.0
_TOKEN = "canary-of-the-cluster"
_STARTS = 10
_OUR_TRADES = 40_000
_FRAME_MS = 100


@dataclass(frozen=True)
class Played:
    """A tape, how fast it is played, how many trades it has, and its vendor's bars."""

    path: Path
    speed: str
    trades: int
    vendor: Path | None = None
    exact_bars: int | None = None


def tape_of(folder: Path) -> Played:
    """Return SPY's day of TAPELINE_TAPES, sixteen hours in sixteen minutes, or one of our own."""
    tapes = os.environ.get("TAPELINE_TAPES")
    if tapes:
        day = Path(tapes) / "spy_20131007"
        return Played(
            day.with_name(f"{day.name}.trades.csv.gz"),
            "60",
            250_601,
            day.with_name(f"{day.name}.bars_5m.csv.gz"),
            188,
        )
    load = StretchedLoad(_OUR_TRADES, 20, 1)
    unique = {trade.trade_id: trade for trade in load.trades()}.values()
    path = folder / "tape.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("event_time_ms", "symbol", "price", "volume", "conditions"))
        for t in sorted(unique, key=lambda t: (t.event_time_ms, t.symbol, t.sequence)):
            conditions = "|".join(t.conditions or ())
            writer.writerow((t.event_time_ms, t.symbol, t.price, t.volume, conditions))
    return Played(path, "8", len(unique))


@dataclass
class Play:
    """What runs, and what was seen."""

    whole: Whole
    client: CassandraClient
    topic_id: str
    environment: Mapping[str, str]
    host: Host
    driver: subprocess.Popen[bytes] | None = None
    codes: list[int] = field(default_factory=list)
    """Of drivers that ended by themselves and were started again."""
    told: list[str] = field(default_factory=list)

    def submit(self) -> None:
        """Start a driver on the host where drivers run now."""
        arguments = [
            *("--topic", NAME, "--keyspace", NAME, "--policy", "sip", "--until-final"),
            *("--checkpoint-dir", f"{self.whole.hdfs.uri}/checkpoints", "--trigger", "1 second"),
        ]
        self.driver = self.host.submit(self.whole.url, arguments, self.environment)

    def committed(self) -> int:
        """Return how many messages are in silver; 0 when nobody answers."""
        try:
            progress = self.client.progress(self.topic_id).values()
        except (DriverException, NoHostAvailable):
            return 0
        return sum(p.committed_offset + 1 for p in progress)

    def await_more(self) -> float:
        """Wait until more is in silver, whatever must be started again; return after how long."""
        began_s, before = time.monotonic(), self.committed()

        def is_more() -> bool:
            self.keep_alive()
            return self.committed() > before

        wait_for(is_more, BACK_S)
        return time.monotonic() - began_s

    def keep_alive(self) -> int | None:
        """Start a driver again that has failed; return its code, None while it runs."""
        assert self.driver is not None
        code = self.driver.poll()
        if code:
            self.codes.append(code)
            assert code != UsageError.exit_code, self.host.log()[-5000:]
            assert len(self.codes) < _STARTS, self.host.log()[-5000:]
            self.submit()
        return code

    def kill_and_start_again(self, member: Member, is_whole: Callable[[], bool]) -> None:
        """Kill a service, leave it dead for a while, start it again and wait until all is whole."""
        member.kill()
        back_s = self.await_more()
        time.sleep(AWAY_S)
        member.start()
        member.await_answer()
        wait_for(is_whole, BACK_S)
        self._tell(f"{member.name} killed", back_s)

    def kill_the_driver(self, other: Host) -> None:
        """Kill the driver; start one on another host, which knows nothing but the checkpoint."""
        self.host.kill()
        self.host = other
        self.submit()
        back_s = self.await_more()
        log = other.log()
        assert "checkpoint_waited_for" in log, log
        assert "checkpoint_set_aside" not in log, log
        self._tell("driver killed, and started on another host", back_s)

    def await_end(self) -> None:
        """Wait until every bar is final."""
        wait_for(lambda: self.keep_alive() == 0, END_S)

    def audit(self, vendor: Path | None) -> list[dict[str, Any]]:
        """Return what an audit says of each layer; it must find no difference."""
        against = ["--against", str(vendor)] if vendor else []
        arguments = ["--keyspace", NAME, "--topic", NAME, *against, "--format", "json"]
        report = run("audit", *arguments, environment=self.environment, merge=False)
        layers: list[dict[str, Any]] = json.loads(report)["layers"]
        return layers

    def _tell(self, what: str, back_s: float) -> None:
        codes = f"; drivers that ended by themselves so far: {self.codes}" if self.codes else ""
        self.told.append(f"{what}: more in silver after {back_s:.0f} s{codes}")


@contextmanager
def play(whole: Whole, home: Home, tape: Played, folder: Path) -> Iterator[Play]:
    """Make topic and tables, and play a tape into them for a while."""
    port = own_ports(1)[0]
    environment = {
        **whole.environment,
        "TAPELINE_FINNHUB__URL": f"ws://{LOOPBACK}:{port}",
        "TAPELINE_SIMULATOR_TOKEN": _TOKEN,
        "FINNHUB_API_KEY": _TOKEN,
    }
    symbols = Tape(tape.path, _FRAME_MS).symbols
    named = folder / "symbols.txt"
    named.write_text("\n".join(symbols), encoding="utf-8")
    run("init", "--topic", NAME, "--keyspace", NAME, environment=environment)
    simulate = ["simulate", "--tape", str(tape.path), "--speed", tape.speed, "--port", str(port)]
    produce = ["produce", "--source", "replay", "--topic", NAME, "--speed", tape.speed]
    with ExitStack() as stack:
        for command in (
            [*simulate, "--symbol-cap", str(len(symbols))],
            [*produce, "--symbols-file", str(named)],
        ):
            python = [sys.executable, "-m", "tapeline", *command]
            # They are of the home of the tests.
            own = {**os.environ, **environment, "TAPELINE_HOME": str(home.root)}
            member = Member(command[0], python, own, folder / command[0], lambda: True)
            member.start()
            stack.callback(member.end)
        settings = load_settings().with_target(topic=NAME, keyspace=NAME)
        client = CassandraClient(settings.cassandra, ADDRESSES[1], whole.cql_port)
        stack.enter_context(closing(client))
        topic_id = topic_id_of(topic_admin(whole.servers), NAME)
        yield Play(whole, client, topic_id, environment, whole.hosts[0])
