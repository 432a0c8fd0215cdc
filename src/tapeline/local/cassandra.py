"""Cassandra as one local process, a node of its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cassandra import OperationTimedOut
from cassandra.cluster import Cluster, NoHostAvailable

from tapeline.local.class_archive import use_archive
from tapeline.local.ports import PortClaims
from tapeline.local.service import (
    LOOPBACK,
    RunningService,
    ServicePlace,
    accepts_connections,
    start_service,
)
from tapeline.local.state import CASSANDRA
from tapeline.program.profile import Sizes

NAME: Final = CASSANDRA
PREFERRED_PORT: Final = 19042
_STORAGE_PORT: Final = 17000
_REQUEST_TIMEOUT: Final = "20s"

# What Cassandra 5 reaches into on Java 17; its own launcher passes the same.
_EXPORTS: Final = (
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "java.base/java.lang.ref",
    "java.base/java.lang.reflect",
    "jdk.unsupported/sun.misc",
)
_OPENS: Final = (
    "java.base/java.lang.module",
    "java.base/java.lang.ref",
    "java.base/java.lang.reflect",
    "java.base/java.math",
    "java.base/java.net",
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
)

_LOGBACK: Final = """\
<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %level %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="out"/></root>
</configuration>
"""


def start_cassandra(
    place: ServicePlace, sizes: Sizes, preferred_port: int = PREFERRED_PORT
) -> RunningService:
    """Start a node on loopback."""
    data = place.data
    data.mkdir(parents=True, exist_ok=True)
    configuration = data / "cassandra.yaml"
    logback = data / "logback.xml"
    logback.write_text(_LOGBACK, encoding="utf-8")
    agent = next(place.jars.glob("*jamm-*.jar"))
    class_path = str(place.jars / "*")
    archive = use_archive(place.class_archives, NAME, place.java_home, class_path)
    command = [
        str(place.java_home / "bin" / "java"),
        *sizes.cassandra.arguments,
        *archive.options,
        f"-javaagent:{agent}",
        *(f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTS),
        *(f"--add-opens={name}=ALL-UNNAMED" for name in _OPENS),
        "-Djdk.attach.allowAttachSelf=true",
        f"-Dcassandra.config={configuration.as_uri()}",
        f"-Dlogback.configurationFile={logback}",
        f"-Dcassandra.storagedir={data}",
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        "-Dcassandra.ring_delay_ms=1",
        "-Dcassandra-foreground=yes",
        "-XX:+ExitOnOutOfMemoryError",
        # The log is mapped into memory, so a full disk crashes Java; the report stays with us.
        f"-XX:ErrorFile={place.log.with_name('cassandra-crash.log')}",
        "-cp",
        class_path,
        "org.apache.cassandra.service.CassandraDaemon",
    ]
    with PortClaims() as claims:
        port, storage_port = claims.take(preferred_port), claims.take(_STORAGE_PORT)
        settings = _configuration(data, port, storage_port, sizes.cassandra_yaml)
        configuration.write_text(json.dumps(settings, indent=2), encoding="utf-8")
        service = start_service(
            NAME,
            command,
            port=port,
            log=place.log,
            environment=place.environment,
            inherits=claims.descriptors,
        )
    archive.started(service.pid)
    return service


def cassandra_answers(port: int) -> bool:
    """Ask the node for its version over CQL."""
    if not accepts_connections(port):
        return False
    # The driver reports each refused attempt as an error; here they are expected.
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)
    cluster = Cluster([LOOPBACK], port=port, connect_timeout=5)
    try:
        session = cluster.connect()
        return session.execute("SELECT release_version FROM system.local").one() is not None
    except (NoHostAvailable, OperationTimedOut, OSError):
        return False
    finally:
        cluster.shutdown()
        logging.getLogger("cassandra").setLevel(logging.NOTSET)


def _configuration(
    data: Path, port: int, storage_port: int, sizes: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "cluster_name": "tapeline",
        "num_tokens": 1,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        # After a kill Cassandra reads its log back only as far as it was last synced, so what is
        # acknowledged is synced first; ADR 0013.
        "commitlog_sync": "batch",
        # One that cannot write ends and says why, instead of staying without answering.
        "commit_failure_policy": "die",
        "disk_failure_policy": "die",
        "data_file_directories": [str(data / "data")],
        "commitlog_directory": str(data / "commitlog"),
        "saved_caches_directory": str(data / "saved_caches"),
        "hints_directory": str(data / "hints"),
        "cdc_raw_directory": str(data / "cdc_raw"),
        "seed_provider": [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": f"{LOOPBACK}:{storage_port}"}],
            }
        ],
        "endpoint_snitch": "SimpleSnitch",
        "listen_address": LOOPBACK,
        "rpc_address": LOOPBACK,
        "start_native_transport": True,
        "native_transport_port": port,
        "storage_port": storage_port,
        "storage_compatibility_mode": "NONE",
        "memtable": {
            "configurations": {
                "trie": {"class_name": "TrieMemtable"},
                "default": {"inherits": "trie"},
            }
        },
        "sstable": {"selected_format": "bti"},
        "auto_snapshot": False,
        # Spark has the same processors: what is slow is still wanted, as long as clients wait.
        "read_request_timeout": _REQUEST_TIMEOUT,
        "range_request_timeout": _REQUEST_TIMEOUT,
        "write_request_timeout": _REQUEST_TIMEOUT,
        **sizes,
    }
