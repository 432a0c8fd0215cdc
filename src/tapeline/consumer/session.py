"""The Spark session: connectors, Cassandra's address, and the settings that matter."""

from __future__ import annotations

import os
from typing import Final

from pyspark.sql import SparkSession
from rich.console import Console

from tapeline.errors import StreamError
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.jars import SPARK_JARS, fetch_jars, jar_folder
from tapeline.local.java import find_java
from tapeline.settings import Settings

CASSANDRA_EXTENSIONS: Final = "com.datastax.spark.connector.CassandraSparkExtensions"
_ROCKSDB: Final = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"


def build_session(settings: Settings, endpoints: Endpoints) -> SparkSession:
    """Return the session, in this process's own Spark or in the one of spark-submit.

    Raises:
        PreflightError: there is no Java 17.
        StreamError: spark-submit was given no connector packages.
    """
    builder = SparkSession.builder.appName(f"tapeline-{settings.cassandra.keyspace}")
    for key, value in _configuration(settings, endpoints).items():
        builder = builder.config(key, value)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        for key, value in _own_spark(settings).items():
            builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    _require_connector(session)
    return session


def _configuration(settings: Settings, endpoints: Endpoints) -> dict[str, str]:
    stream = settings.stream
    configuration = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.extensions": CASSANDRA_EXTENSIONS,
        "spark.sql.shuffle.partitions": str(stream.shuffle_partitions),
        # The connector's direct join fails with either of these two on.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.exchange.reuse": "false",
        "spark.cassandra.connection.host": endpoints.cassandra_host,
        "spark.cassandra.connection.port": str(endpoints.cassandra_port),
        "spark.cassandra.connection.localDC": settings.cassandra.local_datacenter,
        "spark.cassandra.output.batch.grouping.key": "partition",
        "spark.cassandra.output.batch.size.rows": "200",
        "spark.cassandra.output.consistency.level": "LOCAL_QUORUM",
        "spark.cassandra.input.consistency.level": "LOCAL_QUORUM",
    }
    if stream.rocksdb_state:
        configuration["spark.sql.streaming.stateStore.providerClass"] = _ROCKSDB
    return configuration


def _own_spark(settings: Settings) -> dict[str, str]:
    """Return what only we can set, because we start Spark; make Java and jars ready."""
    java_home = find_java()
    os.environ["JAVA_HOME"] = str(java_home)
    # The address on which Spark's services listen is fixed before its JVM starts.
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    home = Home(settings.home)
    fetch_jars(home.jars, [SPARK_JARS], java_home, Console(stderr=True))
    jars = sorted(jar_folder(home.jars, SPARK_JARS).glob("*.jar"))
    return {
        "spark.master": settings.stream.master,
        "spark.driver.memory": settings.stream.driver_memory,
        "spark.jars": ",".join(str(j) for j in jars),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": str(home.root / "spark-warehouse"),
    }


def _require_connector(session: SparkSession) -> None:
    # The gateway answers a class that is not there with a package of that name.
    loader = session.sparkContext._jvm.java.lang.Thread.currentThread().getContextClassLoader()  # type: ignore[union-attr]  # noqa: SLF001 - the only way to the JVM
    if loader.getResource(f"{CASSANDRA_EXTENSIONS.replace('.', '/')}.class") is None:
        session.stop()
        packages = ",".join(SPARK_JARS.coordinates)
        message = f"Spark has no Cassandra connector: pass spark-submit --packages {packages}"
        raise StreamError(message)
