"""The services of docker-compose.yml, each as its command line and environment have it.

A container's view of its files is made as Docker makes it: the root read-only, a volume at one
place, `/tmp` in memory, and the host's name where the compose file gives one. Names and ports of
the containers' network, and paths of the image, are replaced by those of this machine, and
Finnhub's address by that of the simulator. It needs a Linux that lets a user have namespaces.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyspark
import pytest
import yaml
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it names only the first
    ConfigResource,
)

from tapeline.kafka.topics import delete_topic, topic_admin
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.jars import KAFKA_JARS, SPARK_JARS, jar_folder
from tapeline.local.java import JAVA_LOCALE, find_java, java_environment
from tapeline.local.kafka import kafka_answers
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.program.settings import load_settings
from tapeline.storage.cassandra_client import CassandraClient
from tests.commands import ROOT, TIMEOUT_S, stored_bars, wait_for

SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
IMAGE = dict(
    re.findall(
        r"^(?:ENV|   ) (\w+)=(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
)
VOLUME = "/mnt"
"""Stands for the image's volume, whose own path is not on every machine."""
CONTAIN = (
    'mount --bind "$1" /mnt && mount -t tmpfs -o "$2" tmpfs /tmp && mount -o remount,ro,bind / '
    '&& shift 2 && exec "$@"'
)
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", CONTAIN, "sh"]
NAME_HOST = 'hostname "$1" && shift && exec "$@"'
NAMED = ["unshare", "--user", "--map-root-user", "--uts", "sh", "-c", NAME_HOST, "sh"]
SYMBOL = "BINANCE:BTCUSDT"
GIVEN = {"FINNHUB_API_KEY": "simulated"}
"""What the user sets: the key of the simulator."""
FEED = "ws://simulator:18765"
PROFILES = {"simulated": ("simulated-", "demo"), "app": ("", "market_data")}
"""What the names of a profile's services begin with, and its keyspace."""
TOPICS = {"demo": "demo", "market_data": "trades_raw"}
"""Of each keyspace."""
METRICS_PORTS = {
    "TAPELINE_METRICS__PRODUCER_PORT": "9108",
    "TAPELINE_METRICS__STREAM_PORT": "9109",
}


@dataclass
class Containers:
    """Starts services of the compose file as processes, and asks their health checks."""

    endpoints: Endpoints
    home: Path
    connectors: Path
    java: dict[str, str]
    folder: Path
    _ports: dict[str, int] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[Any]] = field(default_factory=dict)

    def start(self, service: str) -> None:
        """Start a service."""
        (memory,) = (m.partition(":")[2] for m in SERVICES[service]["tmpfs"])
        contained = [*NAMESPACE, str(self.home), memory]
        with self._log(service).open("wb") as log:
            self._running[service] = subprocess.Popen(
                [*_named(service), *contained, *self._command(service)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env=self._environment(service),
            )

    def finish(self, service: str) -> None:
        """Wait for the successful end of one that does not last."""
        code = self._running.pop(service).wait(TIMEOUT_S)
        assert code == 0, self.log_of(service)

    def stop(self, service: str) -> None:
        """Ask a service to end, as Docker does, and wait until it has."""
        process = self._running.pop(service)
        process.terminate()
        process.wait(TIMEOUT_S)

    def wait_until_healthy(self, service: str) -> None:
        """Wait until its health check succeeds, which it must before the service ends."""
        kind, program, *arguments = SERVICES[service]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")

        def is_healthy() -> bool:
            assert self._running[service].poll() is None, self.log_of(service)
            asked = subprocess.run(
                [*_named(service), sys.executable, *map(self._here, arguments)],
                cwd=ROOT,
                env=self._environment(service),
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            return asked.returncode == 0

        wait_for(is_healthy)

    def end(self) -> None:
        """Stop all, the last one first."""
        for process in reversed(self._running.values()):
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()

    def log_of(self, service: str) -> str:
        return self._log(service).read_text(encoding="utf-8", errors="replace")[-5000:]

    def _log(self, service: str) -> Path:
        return self.folder / f"{service}.log"

    def _command(self, service: str) -> list[str]:
        command = [self._here(_filled(part)) for part in SERVICES[service]["command"]]
        if command[:2] == ["tapeline", "api"] or command[:2] == ["tapeline", "simulate"]:
            # Their usual port may be taken here.
            command += ["--port", str(self._port("8700" if command[1] == "api" else "18765"))]
        programs = {
            "tapeline": [sys.executable, "-m", "tapeline"],
            "python": [sys.executable],
            "spark-class": [f"{Path(pyspark.__path__[0])}/bin/spark-class"],
        }
        return [*programs[command[0]], *command[1:]]

    def _environment(self, service: str) -> dict[str, str]:
        """Return what the image and the compose file set, and where Java and Python are here."""
        named = {**IMAGE, **SERVICES[service].get("environment", {})}
        environment = {
            name: self._here(_filled(str(value))) for name, value in named.items() if name != "PATH"
        }
        if "TAPELINE_CASSANDRA__HOST" in environment:
            environment["TAPELINE_CASSANDRA__PORT"] = str(self.endpoints.cassandra_port)
        if "FINNHUB_API_KEY" in environment:
            environment["TAPELINE_FINNHUB__URL"] = self._here(FEED)
        if "TAPELINE_METRICS__HOST" in environment:
            # Their usual ports may be taken here.
            ports = {name: str(self._port(port)) for name, port in METRICS_PORTS.items()}
            environment.update(ports)
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return {**self.java, **environment, "SPARK_LOCAL_IP": LOOPBACK}

    def _here(self, text: str) -> str:
        """Put what is here in the place of the containers' names, ports and paths."""
        for path, here in (
            ("/var/lib/tapeline", VOLUME),
            ("/opt/spark", pyspark.__path__[0]),
            ("/opt/connectors", str(self.connectors)),
            ("/app/", f"{ROOT}/"),
            ("kafka:29092", self.endpoints.bootstrap_servers),
        ):
            text = text.replace(path, here)
        if text == "cassandra":
            return self.endpoints.cassandra_host
        text = re.sub(
            r"(?<=//)(spark-master|simulator|localhost)\b|^(spark-master|0\.0\.0\.0)$",
            LOOPBACK,
            text,
        )
        return re.sub(
            r"(?<![\w.])(7077|8080|8081|8700|18765)\b", lambda m: str(self._port(m[1])), text
        )

    def _port(self, port: str) -> int:
        if port not in self._ports:
            self._ports[port] = free_port(0)
        return self._ports[port]


def _named(service: str) -> list[str]:
    """Return what gives a command the name of its container's host, where it has one."""
    name = SERVICES[service].get("hostname")
    return [*NAMED, name] if name else []


def _filled(text: str) -> str:
    """Put what the user gives, or the default, in the place of a variable."""
    return re.sub(r"\$\{(\w+):-(.*?)\}", lambda found: GIVEN.get(found[1], found[2]), text)


@pytest.fixture
def containers(stack: Endpoints, home: Home, tmp_path: Path) -> Iterator[Containers]:
    volume = tmp_path / "home"
    volume.mkdir()
    environment = java_environment(find_java())
    java = {name: environment[name] for name in ("PATH", "JAVA_HOME", *JAVA_LOCALE)}
    connectors = jar_folder(home.jars, SPARK_JARS)
    parts = Containers(stack, volume, connectors, java, tmp_path)
    try:
        yield parts
    finally:
        parts.end()
        for keyspace, topic in TOPICS.items():
            settings = load_settings().with_target(topic=topic, keyspace=keyspace)
            delete_topic(topic_admin(stack.bootstrap_servers), topic)
            with CassandraClient(
                settings.cassandra, stack.cassandra_host, stack.cassandra_port
            ) as client:
                client.drop_schema()


def test_each_profile_makes_bars_and_is_healthy_on_a_read_only_root(
    containers: Containers,
) -> None:
    for service in ("spark-master", "spark-worker", "simulator"):
        containers.start(service)
        containers.wait_until_healthy(service)
    run = ["spark-master", "spark-worker", "simulator"]

    for profile, (before, keyspace) in PROFILES.items():
        parts = [f"{before}{part}" for part in ("producer", "stream", "api")]
        containers.start(f"{before}init")
        containers.finish(f"{before}init")
        for service in parts:
            containers.start(service)
        for service in parts:
            containers.wait_until_healthy(service)
        bars = wait_for(partial(stored_bars, {SYMBOL}, "5m", keyspace))
        assert all(bar["trade_count"] > 0 for bar in bars.values()), profile
        for service in reversed(parts):
            containers.stop(service)
        run += [f"{before}init", *parts]

    assert set(run) == {name for name, s in SERVICES.items() if s["image"].startswith("tapeline:")}


def test_every_variable_of_the_broker_is_in_effect(home: Home, tmp_path: Path) -> None:
    """Its image makes properties of them as it documents: KAFKA_NODE_ID becomes node.id."""
    ports = {port: str(free_port(0)) for port in ("29092", "9092", "9093")}
    variables = {name: str(value) for name, value in SERVICES["kafka"]["environment"].items()}
    heap = variables.pop("KAFKA_HEAP_OPTS")
    properties = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): _of_this_machine(value, ports)
        for name, value in variables.items()
    }
    properties["log.dirs"] = "data"  # the image's volume
    file = tmp_path / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    found = find_java()
    java = [f"{found}/bin/java", heap, "-cp", f"{jar_folder(home.jars, KAFKA_JARS)}/*"]
    run = partial(subprocess.run, cwd=tmp_path, env=java_environment(found), check=True)
    run([*java, "kafka.tools.StorageTool", "format", "--cluster-id=tapeline", "--config", file])
    with (tmp_path / "kafka.log").open("wb") as log:
        broker = subprocess.Popen(
            [*java, "kafka.Kafka", file],
            cwd=tmp_path,
            env=java_environment(found),
            stdout=log,
            stderr=log,
        )
    try:
        inside, host = int(ports["29092"]), int(ports["9092"])
        wait_for(lambda: kafka_answers(inside) and kafka_answers(host))
        assert broker.poll() is None, (tmp_path / "kafka.log").read_text()
        for port in (inside, host):  # each listener sends its clients back to itself
            (node,) = topic_admin(f"{LOOPBACK}:{port}").list_topics(timeout=60).brokers.values()
            assert f"{node.host}:{node.port}" == f"{LOOPBACK}:{port}"
        resource = ConfigResource(ConfigResource.Type.BROKER, properties["node.id"])
        admin = topic_admin(f"{LOOPBACK}:{host}")
        in_effect = admin.describe_configs([resource])[resource].result(120)
        assert {name: in_effect[name].value for name in properties} == properties
    finally:
        broker.terminate()
        broker.wait(TIMEOUT_S)


def _of_this_machine(value: str, ports: Mapping[str, str]) -> str:
    """Put this machine's ports and address in the place of the broker's."""
    value = re.sub(r"(?<=://)(kafka|localhost)?(?=:)|(?<=@)localhost", LOOPBACK, value)
    return re.sub(r"(?<=:)\d+\b", lambda found: ports[found[0]], value)
