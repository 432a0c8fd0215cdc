"""spark-submit on a standalone cluster: a master and a worker as processes on loopback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyspark
import pytest

from tapeline.local.home import Home
from tapeline.local.jars import SPARK_JARS, jar_folder
from tapeline.local.java import find_java, java_environment
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK, accepts_connections
from tapeline.model.bar import Interval
from tests.commands import ROOT, TIMEOUT_S, finish, is_healthy, wait_for
from tests.hand import TAPE, hand_bars, values_of
from tests.pipeline import Pipeline

SPARK_HOME = Path(pyspark.__path__[0])
MASTER = "org.apache.spark.deploy.master.Master"
WORKER = "org.apache.spark.deploy.worker.Worker"
# For Java processes that live half a minute.
QUICK_START = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


@dataclass
class Cluster:
    """Addresses of a running master."""

    url: str
    web: str
    environment: dict[str, str]
    processes: list[subprocess.Popen[Any]]
    """All that was started, to be ended with the cluster."""

    def submit(self, pipeline: Pipeline, jars: list[Path]) -> subprocess.Popen[str]:
        """Start the launcher that the plan names, on one test's topic and keyspace."""
        command = [
            *(SPARK_HOME / "bin" / "spark-submit", "--master", self.url),
            *("--executor-memory", "512m", "--jars", ",".join(map(str, jars))),
            *("--driver-java-options", QUICK_START),
            *("--conf", f"spark.executor.extraJavaOptions={QUICK_START}"),
            *(ROOT / "src" / "consumer" / "main.py", "--until-final", "--policy", "sip"),
            *("--topic", pipeline.name, "--keyspace", pipeline.name),
        ]
        kafka = pipeline.settings.kafka
        topics = {
            "TAPELINE_KAFKA__STATUS_TOPIC": kafka.status_topic,
            "TAPELINE_KAFKA__GAPS_TOPIC": kafka.gaps_topic,
        }
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**self.environment, **topics},
        )
        self.processes.append(process)
        return process


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    environment = {
        **java_environment(find_java()),
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_LOCAL_IP": LOOPBACK,
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": QUICK_START,
        "SPARK_WORKER_DIR": str(folder),
        "PYSPARK_PYTHON": sys.executable,
    }
    port, master_web, worker_web = (str(free_port(0)) for _ in range(3))
    url = f"spark://{LOOPBACK}:{port}"
    master = [MASTER, "--host", LOOPBACK, "--port", port, "--webui-port", master_web]
    worker = [WORKER, "--cores", "2", "--memory", "1g", "--webui-port", worker_web, url]
    processes: list[subprocess.Popen[Any]] = []
    try:
        with (folder / "log").open("wb") as log:
            for command, web in ((master, master_web), (worker, worker_web)):
                # spark-class becomes the Java process itself.
                process = subprocess.Popen(
                    [SPARK_HOME / "bin" / "spark-class", *command],
                    stdout=log,
                    stderr=log,
                    env=environment,
                )
                processes.append(process)
                wait_for(lambda web=web: accepts_connections(int(web)))
                wait_for(lambda web=web: is_healthy("spark", f"http://{LOOPBACK}:{web}"))
        yield Cluster(url, f"http://{LOOPBACK}:{master_web}", environment, processes)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(TIMEOUT_S)


@pytest.fixture
def connectors(home: Home) -> list[Path]:
    return sorted(jar_folder(home.jars, SPARK_JARS).glob("*.jar"))


def test_a_submitted_stream_makes_the_hand_worked_bars(
    cluster: Cluster, pipeline: Pipeline, connectors: list[Path]
) -> None:
    pipeline.send_tape(TAPE)
    keyspace = {"TAPELINE_CASSANDRA__KEYSPACE": pipeline.name}

    process = cluster.submit(pipeline, connectors)
    assert process.stdout is not None
    for line in process.stdout:
        if "event=streaming" in line:
            break
    assert is_healthy("stream", cluster.web, environment=keyspace)
    finish(process)

    assert not is_healthy("stream", cluster.web, environment=keyspace)
    for interval in (Interval.FIVE_MINUTES, Interval.ONE_HOUR):
        bars = pipeline.bars(interval)
        assert {key: values_of(bar) for key, bar in bars.items()} == hand_bars(interval)
        assert all(bar.is_final for bar in bars.values())


def test_a_submission_without_the_connector_for_avro_says_what_to_pass(
    cluster: Cluster, pipeline: Pipeline, connectors: list[Path]
) -> None:
    process = cluster.submit(pipeline, [jar for jar in connectors if "avro" not in jar.name])

    output, _ = process.communicate(timeout=TIMEOUT_S)

    assert process.returncode == 2
    assert "Traceback" not in output
    assert (
        "Error: Spark has no connector for Avro: pass spark-submit --packages "
        "org.apache.spark:spark-sql-kafka-0-10_2.12:3.5.7,"
        "org.apache.spark:spark-avro_2.12:3.5.7,"
        "com.datastax.spark:spark-cassandra-connector_2.12:3.5.1\n"
    ) in output
