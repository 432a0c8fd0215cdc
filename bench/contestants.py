"""The contestants: how each is started on a topic and a keyspace, and how far it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cassandra import InvalidRequest
from cassandra.cluster import Session

from bench.services import Process, Services, tapeline


class Contestant(str, Enum):
    """Who is measured."""

    TAPELINE = "tapeline"
    PLAIN = "plain"
    PLAIN_DRIVER = "plain-driver"
    LIMIT = "cassandra-limit"

    @property
    def keyspace(self) -> str:
        """Its own keyspace."""
        return f"bench_{self.value.replace('-', '_')}"


_DRIVERS: Final = {Contestant.PLAIN_DRIVER: "cassandra-driver"}
PROGRESS: Final = "messages"
"""Messages whose rows are in silver and bronze."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to read."""

    topic: str
    topic_id: str
    until_end: bool
    """Stop when everything is stored and every bar is final."""


def start(
    services: Services, contestant: Contestant, target: Target, options: Sequence[str] = ()
) -> Process:
    """Make the contestant's tables where it does not itself, and start it.

    Args:
        services: where.
        contestant: who.
        target: what to read.
        options: further options of `tapeline stream`.
    """
    if contestant is Contestant.TAPELINE:
        services.run("init", "--topic", target.topic, "--keyspace", contestant.keyspace)
        command = tapeline("stream", "--topic", target.topic, "--keyspace", contestant.keyspace)
        command += ["--until-final"] * target.until_end
        return services.start("stream", [*command, *options])
    command = [
        *(sys.executable, "-m", "bench.plain"),
        *("--driver", _DRIVERS.get(contestant, "acsylla")),
        *("--kafka", services.bootstrap_servers),
        *("--cassandra-port", str(services.cassandra_port)),
        *("--topic", target.topic),
        *("--topic-id", target.topic_id),
        *("--keyspace", contestant.keyspace),
        *["--until-end"] * target.until_end,
        *["--writes-only"] * (contestant is Contestant.LIMIT),
    ]
    return services.start(contestant.value, command)


def progress_of(
    session: Session, contestant: Contestant, topic_id: str
) -> Callable[[], Mapping[str, float]]:
    """Return what tells how many messages are in the tables, by the contestant's own account.

    The tables are checked afterwards, so a wrong account fails the run.
    """
    query = f"SELECT * FROM {contestant.keyspace}.ingest_progress WHERE topic_id = %s"

    def look() -> Mapping[str, float]:
        try:
            rows = session.execute(query, [topic_id])
        except InvalidRequest:  # the table is not there yet
            return {PROGRESS: 0.0}
        offsets = (row.committed_offset for row in rows)
        return {PROGRESS: float(sum(last + 1 for last in offsets if last is not None))}

    return look


def final_bars(session: Session, contestant: Contestant) -> int:
    """Return how many bars of five minutes and of hours are final."""
    tables = (f"{contestant.keyspace}.trades_gold_{length}" for length in ("5m", "1h"))
    return sum(
        row.is_final is True
        for table in tables
        for row in session.execute(f"SELECT is_final FROM {table}")
    )
