"""Three Cassandra nodes, on three addresses of loopback."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from cassandra import OperationTimedOut
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import WhiteListRoundRobinPolicy

from tapeline.local.cassandra import _EXPORTS, _LOGBACK, _OPENS, _configuration
from tapeline.local.home import Home
from tapeline.local.jars import CASSANDRA_JARS, jar_folder
from tapeline.local.java import find_java, java_environment
from tapeline.program.profile import Profile
from tests.cluster.member import Member, own_ports

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
_HEAP = "512m"
_TOKENS = 2**64


def make_nodes(home: Home, folder: Path) -> tuple[list[Member], int]:
    """Write the settings of three nodes of one ring; return them, and the port of all."""
    port, storage_port = own_ports(2)
    nodes = []
    for number, address in enumerate(ADDRESSES):
        own = folder / f"cassandra-{number + 1}"
        own.mkdir(parents=True)
        (own / "logback.xml").write_text(_LOGBACK, encoding="utf-8")
        together = {
            "listen_address": address,
            "rpc_address": address,
            "initial_token": str(number * _TOKENS // len(ADDRESSES) - _TOKENS // 2),
            # None of them has anything yet that another would have to be given.
            "auto_bootstrap": False,
            "phi_convict_threshold": 12,
        }
        sizes = {**Profile.SMALL.sizes.cassandra_yaml, **together}
        settings = _configuration(own, port, storage_port, sizes)
        (own / "cassandra.yaml").write_text(json.dumps(settings, indent=2), encoding="utf-8")
        nodes.append(_node(home, own, address, port))
    return nodes, port


def _node(home: Home, own: Path, address: str, port: int) -> Member:
    java_home, jars = find_java(), jar_folder(home.jars, CASSANDRA_JARS)
    command = [
        java_home / "bin" / "java",
        *(f"-Xms{_HEAP}", f"-Xmx{_HEAP}", *Profile.SMALL.sizes.cassandra.options),
        f"-javaagent:{next(jars.glob('*jamm-*.jar'))}",
        *(f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTS),
        *(f"--add-opens={name}=ALL-UNNAMED" for name in _OPENS),
        "-Djdk.attach.allowAttachSelf=true",
        f"-Dcassandra.config={(own / 'cassandra.yaml').as_uri()}",
        f"-Dlogback.configurationFile={own / 'logback.xml'}",
        f"-Dcassandra.storagedir={own}",
        "-Dcassandra.ring_delay_ms=3000",
        "-Dcassandra-foreground=yes",
        "-XX:+ExitOnOutOfMemoryError",
        *("-cp", jars / "*", "org.apache.cassandra.service.CassandraDaemon"),
    ]
    answers = partial(sees, address, port, 0)
    return Member(f"Cassandra {address}", command, java_environment(java_home), own, answers)


def sees(address: str, port: int, others: int) -> bool:
    """Return whether a node answers and knows so many others at least."""
    profile = ExecutionProfile(WhiteListRoundRobinPolicy([address]))
    cluster = Cluster(
        [address],
        port=port,
        protocol_version=5,
        connect_timeout=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )
    try:
        session = cluster.connect()
        return len(list(session.execute("SELECT peer FROM system.peers_v2"))) >= others
    except (NoHostAvailable, OperationTimedOut, OSError):
        return False
    finally:
        cluster.shutdown()
