"""A Cassandra that asks for rights: SELECT is enough to read, and what lacks a right says which.

The roles are those of docs/security.md, made by the statements that stand there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tapeline.api.app import create_app
from tapeline.local.home import Home
from tapeline.local.service import LOOPBACK
from tapeline.model.bar import Bar, Interval
from tapeline.model.conditions import SIP
from tapeline.model.errors import AccessError
from tapeline.model.gap import Gap, GapKind
from tapeline.model.times import floor_to, to_micros
from tapeline.program.settings import Settings, load_settings
from tapeline.read.bars import read_bars
from tapeline.read.trades import read_trades
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.topics import TopicState
from tests.certificates import Authority
from tests.commands import ROOT, fail, run
from tests.secured import environment_of, secured_cassandra, superuser
from tests.served import serving

PASSWORD = "let-me-in-4"
FIVE = timedelta(minutes=5)
NOW = datetime.now(timezone.utc)
DAY = timedelta(days=1)
START = floor_to(DAY, NOW) - DAY / 2  # yesterday noon
STATEMENTS = [
    block.replace("…", PASSWORD).strip().split("\n")
    for block in re.findall(
        r"```cql\n(.*?)```", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"), re.DOTALL
    )
]


def bar(start: datetime) -> Bar:
    volume = Decimal(3)
    return Bar("AAPL", start, start + FIVE, 1.0, 2.0, 1.0, 1.5, volume, Decimal(4), 4 / 3, 5)


BARS = [bar(START), bar(START + FIVE), bar(floor_to(FIVE, NOW))]
SPAN = to_micros(START), to_micros(START + FIVE)
GAP = Gap("p", "t", "id", GapKind.DISCONNECTED, ("AAPL",), *SPAN, SPAN[0])


@dataclass(frozen=True)
class Node:
    """A node with bars of AAPL, a role that wrote them, one that may read, one without rights."""

    port: int

    def variables(self, user: str) -> dict[str, str]:
        return environment_of(
            TAPELINE_CASSANDRA__HOST=LOOPBACK,
            TAPELINE_CASSANDRA__PORT=self.port,
            TAPELINE_CASSANDRA__USERNAME=user,
            TAPELINE_CASSANDRA__PASSWORD=PASSWORD,
            TAPELINE_KAFKA__BOOTSTRAP_SERVERS=f"{LOOPBACK}:9",
        )

    def settings(self, user: str) -> Settings:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables(user).items():
                patch.setenv(name, value)
            return load_settings()

    def client(self, user: str) -> CassandraClient:
        return CassandraClient(self.settings(user).cassandra, LOOPBACK, self.port)


@pytest.fixture(scope="module")
def node(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("rights")
    with secured_cassandra(home, folder / "cassandra", Authority(folder / "authority")) as running:
        node = Node(running.open)
        writer, reader = STATEMENTS
        with superuser(node.port) as session:
            for statement in writer:
                session.execute(statement)
            with node.client("tapeline") as client:
                client.create_schema()
                client.create_schema()
                client.write_final_bars(Interval.FIVE_MINUTES, [(b, 10) for b in BARS])
                client.write_gaps([GAP])
            for statement in reader:
                session.execute(statement)
            nobody = f"CREATE ROLE nobody WITH PASSWORD = '{PASSWORD}' AND LOGIN = true"
            session.execute(nobody)
        yield node


def test_select_is_enough_for_commands_and_for_python(node: Node, tmp_path: Path) -> None:
    variables = node.variables("tapeline_reader")
    first = f"{START:%Y-%m-%d}"
    output = run("bars", "AAPL", "--from", first, "--format", "json", environment=variables)
    assert output.count('"window_start"') == 3
    assert "AAPL" in run("gaps", environment=variables)
    export = ["export", "bars", "--provisional", "-o", str(tmp_path / "out")]
    run(*export, environment=variables)
    assert (tmp_path / "out" / f"date={first}" / "AAPL.parquet").is_file()

    settings = node.settings("tapeline_reader")
    table = read_bars("AAPL", "5m", START, NOW, settings=settings)
    assert table["window_start"].to_pylist() == [b.window_start for b in BARS]
    assert read_trades("AAPL", START, NOW, settings=settings).num_rows == 0


SINCE = f"start={START:%Y-%m-%d}"
PATHS = [
    "/health/ready",
    "/v1/symbols",
    f"/v1/bars/AAPL?{SINCE}",
    f"/v1/bars/AAPL?interval=1h&fill=flat&{SINCE}",
    "/v1/bars/AAPL?interval=1d",
    "/v1/bars?symbols=AAPL,MSFT",
    "/v1/bars/latest?symbols=AAPL",
    "/v1/trades/AAPL",
    "/v1/gaps",
    "/v1/status",
]


def test_select_is_enough_for_the_api(node: Node) -> None:
    with serving(create_app(node.settings("tapeline_reader"))) as client:
        answers = {path: client.get(path) for path in PATHS}
        with client.stream("GET", "/v1/stream?symbols=AAPL") as stream:
            assert next(line for line in stream.iter_lines() if '"AAPL"' in line)
    assert {path: a.status_code for path, a in answers.items()} == dict.fromkeys(PATHS, 200)
    assert answers["/v1/symbols"].json() == {"symbols": ["AAPL"], "may_change": False}
    assert len(answers[f"/v1/bars/AAPL?{SINCE}"].json()["bars"]) == 3
    assert len(answers["/v1/gaps"].json()["gaps"]) == 1


WRITES: dict[str, Callable[[CassandraClient], object]] = {
    "write_bars": lambda client: client.write_bars(Interval.FIVE_MINUTES, [(BARS[0], 99)]),
    "write_final_bars": lambda client: client.write_final_bars(
        Interval.FIVE_MINUTES, [(bar(START + n * FIVE), 99) for n in range(20)]
    ),
    "write_gaps": lambda client: client.write_gaps([GAP]),
    "write_policy": lambda client: client.write_policy(SIP),
    "write_topic_state": lambda client: client.write_topic_state("t", TopicState.OVER, NOW),
    "create_schema": lambda client: client.create_schema(),
    "drop_schema": lambda client: client.drop_schema(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
def test_select_is_not_enough_to_write(
    node: Node, write: Callable[[CassandraClient], object]
) -> None:
    with node.client("tapeline_reader") as client, pytest.raises(AccessError) as raised:
        write(client)
    sentence = str(raised.value)
    assert raised.value.exit_code == 2
    assert sentence.startswith(
        "Cassandra refuses this to user tapeline_reader, who lacks the right"
    )
    assert re.search(r"right (MODIFY|CREATE|DROP) on (<?)(table|all|keyspace)", sentence)


def test_a_command_that_writes_says_which_right_it_lacks(node: Node) -> None:
    code, output = fail("init", environment=node.variables("tapeline_reader"))
    assert code == 2
    *_, error = output.strip().splitlines()
    assert error == (
        "Error: Cassandra refuses this to user tapeline_reader, who lacks the right CREATE on all "
        "keyspaces. Grant it, or set another user in TAPELINE_CASSANDRA__USERNAME "
        "(docs/security.md)."
    )


def test_who_may_not_read_is_told_so(node: Node) -> None:
    code, output = fail("bars", "AAPL", environment=node.variables("nobody"))
    assert code == 2
    assert "user nobody, who lacks the right SELECT on table market_data." in output
    with serving(create_app(node.settings("nobody"))) as client:
        answer: httpx.Response = client.get("/v1/symbols")
    assert answer.status_code == 503
    assert "lacks the right SELECT on table market_data." in answer.json()["detail"]
