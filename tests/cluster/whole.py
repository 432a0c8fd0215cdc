"""The whole cluster: three brokers, three Cassandra nodes, HDFS, a Spark master and two workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tapeline.local.home import Home
from tests.cluster.brokers import make_brokers
from tests.cluster.hdfs import Hdfs, running_hdfs
from tests.cluster.member import Member
from tests.cluster.nodes import ADDRESSES, make_nodes, sees
from tests.cluster.spark import Host, make_spark
from tests.commands import wait_for


@dataclass
class Whole:
    """Its members, and where they are reached."""

    brokers: list[Member]
    nodes: list[Member]
    spark: list[Member]
    hdfs: Hdfs
    hosts: tuple[Host, Host]
    """Where drivers may run."""
    servers: str
    cql_port: int
    url: str
    page: str

    @property
    def workers(self) -> list[Member]:
        return self.spark[1:]

    @property
    def environment(self) -> Mapping[str, str]:
        """What leads every command of ours to it, and has three copies of everything."""
        return {
            "TAPELINE_KAFKA__BOOTSTRAP_SERVERS": self.servers,
            "TAPELINE_KAFKA__REPLICATION_FACTOR": "3",
            "TAPELINE_CASSANDRA__HOST": ",".join(ADDRESSES),
            "TAPELINE_CASSANDRA__PORT": str(self.cql_port),
            "TAPELINE_CASSANDRA__REPLICATION_FACTOR": "3",
            "TAPELINE_PROFILE": "small",
            "TAPELINE_METRICS__STREAM_PORT": "0",
            "TAPELINE_METRICS__PRODUCER_PORT": "0",
        }

    def is_a_ring(self) -> bool:
        """Return whether every Cassandra node answers and knows the two others."""
        return all(sees(address, self.cql_port, len(ADDRESSES) - 1) for address in ADDRESSES)


@contextmanager
def whole_cluster(home: Home, folder: Path) -> Iterator[Whole]:
    """Run all of it for a while."""
    with ExitStack() as stack:
        hdfs = stack.enter_context(running_hdfs(home, folder / "hdfs"))
        brokers, servers = make_brokers(home, folder)
        nodes, cql_port = make_nodes(home, folder)
        spark, url, page = make_spark(folder)
        hosts = (Host(folder / "host-a", home.jars), Host(folder / "host-b", home.jars))
        for member in (*brokers, *nodes, *spark, *hosts):
            stack.callback(member.end)
        for broker in brokers:
            broker.start()
        for node in nodes:  # a ring takes one after the other
            node.start()
            node.await_answer()
        for member in spark:
            member.start()
        for member in (*brokers, *spark):
            member.await_answer()
        whole = Whole(brokers, nodes, spark, hdfs, hosts, servers, cql_port, url, page)
        wait_for(whole.is_a_ring)
        yield whole
