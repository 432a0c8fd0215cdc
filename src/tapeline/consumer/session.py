"""The Spark session: connectors, Cassandra's address, and the settings that matter."""

from __future__ import annotations

import logging
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyspark import SparkContext
from pyspark.sql import SparkSession
from rich.console import Console

from tapeline.consumer.own_spark import brings_connectors, leave_other_spark
from tapeline.consumer.spark_access import executor_properties, first_options, let_into_cassandra
from tapeline.consumer.spark_jvm import java_options, record_classes, spark_archive
from tapeline.local.class_archive import ArchiveUse, make_archives_later
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.jars import SPARK_JARS, fetch_jars, jar_folder
from tapeline.local.java import JAVA_LOCALE, find_java
from tapeline.model.errors import UsageError
from tapeline.program.process import end_with_child
from tapeline.program.settings import Settings

_LOG_LEVEL: Final = "WARN"
_END_GRACE_S: Final = 30.0
CASSANDRA_EXTENSIONS: Final = "com.datastax.spark.connector.CassandraSparkExtensions"
_FILE_MANAGER: Final = (
    "org.apache.spark.sql.execution.streaming.FileSystemBasedCheckpointFileManager"
)
_CLASS_OF_CONNECTOR: Final = {
    "Kafka": "org.apache.spark.sql.kafka010.KafkaSourceProvider",
    "Avro": "org.apache.spark.sql.avro.functions",
    "Cassandra": CASSANDRA_EXTENSIONS,
}
_AVRO_LIMITS: Final = {
    "org.apache.avro.limits.string.maxLength": str(16 << 20),
    "org.apache.avro.limits.collectionItems.maxLength": str(1 << 20),
}
"""Avro makes room for as much as a message says that it holds: without them a message of 20 bytes
ends the JVM, each time that it is read. No message that Kafka takes is longer.
"""
_starting: list[Future[SparkSession]] = []
"""The one session of this process, when it was begun early."""
_LOCAL: Final = re.compile(r"local(\[[^\]]*\])?")
_ON_THIS_MACHINE: Final = re.compile(r"local\b|spark://(localhost|127\.[\d.]+):")


def begin_session(settings: Settings, endpoints: Endpoints) -> None:
    """Start Spark in a thread, while the services may still be starting; see `build_session`."""
    pool = ThreadPoolExecutor(1, "spark-start")
    _starting.append(pool.submit(_build, settings, endpoints, records=True))
    pool.shutdown(wait=False)


def early_session(settings: Settings, endpoints: Endpoints) -> SparkSession:
    """Return, as often as asked, the session that `build_session` is going to return.

    What it raises is raised here.
    """
    if not _starting:
        built: Future[SparkSession] = Future()
        built.set_result(_build(settings, endpoints, records=True))
        _starting.append(built)
    return _starting[0].result()


def build_session(
    settings: Settings, endpoints: Endpoints, *, records: bool = False
) -> SparkSession:
    """Return the session, in this process's own Spark or in the one of spark-submit.

    One that was begun early is waited for, and its failure raised here. With `records` the JVM's
    classes are noted for an archive, unless there is one.

    Raises:
        PreflightError: there is no Java 17.
        LocalStackError: the connectors' jars cannot be fetched.
        UsageError: spark-submit was not given every connector.
    """
    if _starting:
        return _starting.pop().result()
    return _build(settings, endpoints, records=records)


def _build(settings: Settings, endpoints: Endpoints, *, records: bool) -> SparkSession:
    builder = SparkSession.builder.appName(f"tapeline-{settings.cassandra.keyspace}")
    for key, value in _configuration(settings, endpoints).items():
        builder = builder.config(key, value)
    if is_submitted():
        _require_connectors()
        session = builder.getOrCreate()
    else:
        session = _start_own(builder, settings, records=records)
    session.sparkContext.setLogLevel(_LOG_LEVEL)
    for name, limit in _AVRO_LIMITS.items():
        session.sparkContext._jvm.java.lang.System.setProperty(name, limit)  # type: ignore[union-attr]  # noqa: SLF001 - the only way to the JVM
    let_into_cassandra(session, settings.cassandra)
    return session


def process_of(session: SparkSession) -> subprocess.Popen[bytes] | None:
    """Return the process of Spark's driver; None where it is our parent, of spark-submit."""
    return None if is_submitted() else _own_process(session)


def end_with_spark(session: SparkSession) -> None:
    """Let this process not outlive its Spark for long.

    When Java 17 is killed while it starts a process, its `jspawnhelper` lives on forever with all
    of Java's sockets, and py4j waits for an answer on one of them. The Java of spark-submit is our
    parent, and its own affair.
    """
    process = process_of(session)
    if process is not None:
        end_with_child(process, _END_GRACE_S)


def make_spark_archive(home: Home) -> None:
    """Have an archive made of the classes that our Spark recorded, once its JVM has ended."""
    gateway = SparkContext._gateway  # noqa: SLF001 - nothing else knows the process
    if not is_submitted() and gateway is not None:
        make_archives_later(home.class_archives, after_pid=gateway.proc.pid)


def write_without_processes(session: SparkSession) -> None:
    """Have checkpoints on a local disk written by Java itself.

    Spark's usual way starts ten processes for each file there; elsewhere it is the right one.
    """
    session.conf.set("spark.sql.streaming.checkpointFileManagerClass", _FILE_MANAGER)


@contextmanager
def without_logs(session: SparkSession) -> Iterator[None]:
    """Keep Spark and py4j from reporting what is done to a query on purpose."""
    py4j = logging.getLogger("py4j")
    session.sparkContext.setLogLevel("OFF")
    py4j.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        py4j.setLevel(logging.NOTSET)
        session.sparkContext.setLogLevel(_LOG_LEVEL)


def is_submitted() -> bool:
    """Return whether spark-submit runs us, in a Spark with settings of its own."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def _configuration(settings: Settings, endpoints: Endpoints) -> dict[str, str]:
    stream = settings.stream
    return {
        "spark.sql.session.timeZone": "UTC",
        # Before the options that spark-submit or its defaults may give.
        "spark.executor.defaultJavaOptions": " ".join(
            f"-D{name}={value}"
            for name, value in (_AVRO_LIMITS | executor_properties(settings.cassandra)).items()
        ),
        **first_options(settings.cassandra),
        "spark.sql.extensions": CASSANDRA_EXTENSIONS,
        # What a batch keeps lives for seconds; packing it costs more than the memory is worth.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
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


def _start_own(builder: SparkSession.Builder, settings: Settings, *, records: bool) -> SparkSession:
    own, archive = _own_spark(settings, records=records)
    for key, value in own.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    record_classes(archive, _own_process(session).pid)
    return session


def _own_process(session: SparkSession) -> subprocess.Popen[bytes]:
    process: subprocess.Popen[bytes] = session.sparkContext._gateway.proc  # type: ignore[union-attr]  # noqa: SLF001 - nothing else knows it
    return process


def _own_spark(settings: Settings, *, records: bool = False) -> tuple[dict[str, str], ArchiveUse]:
    """Return what only we can set, because we start Spark; make Java and jars ready."""
    is_local = _LOCAL.fullmatch(settings.stream.master) is not None
    leave_other_spark(is_local=is_local)
    java_home = find_java()
    os.environ.update(JAVA_LOCALE, JAVA_HOME=str(java_home))
    if _ON_THIS_MACHINE.match(settings.stream.master):
        # The address on which Spark's services listen is fixed before its JVM starts.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    home = Home(settings.home)
    sizes = settings.profile.sizes.spark
    own = {
        "spark.master": settings.stream.master,
        "spark.driver.memory": settings.stream.driver_memory or sizes.heap,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": str(home.root / "spark-warehouse"),
    }
    jars: list[Path] = []
    if not brings_connectors(os.environ.get("SPARK_DIST_CLASSPATH", "")):
        fetch_jars(home.jars, [SPARK_JARS], java_home, Console(stderr=True, markup=False))
        jars = sorted(jar_folder(home.jars, SPARK_JARS).glob("*.jar"))
        if is_local:
            # Where an archive of classes knows them; a cluster's executors are sent them.
            own["spark.driver.extraClassPath"] = os.pathsep.join(map(str, jars))
        else:
            own["spark.jars"] = ",".join(map(str, jars))
    archive = spark_archive(home, java_home, jars, records=records)
    own["spark.driver.extraJavaOptions"] = java_options(sizes, archive)
    return own, archive


def _require_connectors() -> None:
    """Ask before Spark starts, so that nothing else complains first."""
    SparkContext._ensure_initialized()  # noqa: SLF001 - the only way to the JVM
    # The gateway answers a class that is not there with a package of that name.
    loader = SparkContext._jvm.java.lang.Thread.currentThread().getContextClassLoader()  # type: ignore[union-attr]  # noqa: SLF001 - the same
    missing = [
        name
        for name, class_name in _CLASS_OF_CONNECTOR.items()
        if loader.getResource(f"{class_name.replace('.', '/')}.class") is None
    ]
    if missing:
        packages = ",".join(SPARK_JARS.coordinates)
        message = (
            f"Spark has no connector for {' and '.join(missing)}: "
            f"pass spark-submit --packages {packages}"
        )
        raise UsageError(message)
