"""The services of docker-compose.yml, each as its command line and environment have it.

A container's view of its files is made as Docker makes it: the root read-only, a volume at one
place, `/tmp` in memory. Names and ports of the containers' network, and paths of the image, stand
for those of this machine. It needs a Linux that lets a user have namespaces.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyspark
import pytest
import yaml

from tapeline.kafka.topics import delete_topic, topic_admin
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.jars import SPARK_JARS, jar_folder
from tapeline.local.java import JAVA_LOCALE, find_java, java_environment
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
SYMBOL = "BINANCE:BTCUSDT"
KEYSPACE = "demo"


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
                [*contained, *self._command(service)],
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

    def wait_until_healthy(self, service: str) -> None:
        """Wait until its health check succeeds, which it must before the service ends."""
        kind, program, *arguments = SERVICES[service]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")

        def is_healthy() -> bool:
            assert self._running[service].poll() is None, self.log_of(service)
            asked = subprocess.run(
                [sys.executable, *map(self._here, arguments)],
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
        command = [self._here(part) for part in SERVICES[service]["command"]]
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
            name: self._here(re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value)))
            for name, value in named.items()
            if name != "PATH"
        }
        if "TAPELINE_CASSANDRA__HOST" in environment:
            environment["TAPELINE_CASSANDRA__PORT"] = str(self.endpoints.cassandra_port)
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
        settings = load_settings().with_target(topic=KEYSPACE, keyspace=KEYSPACE)
        delete_topic(topic_admin(stack.bootstrap_servers), KEYSPACE)
        with CassandraClient(
            settings.cassandra, stack.cassandra_host, stack.cassandra_port
        ) as client:
            client.drop_schema()


def test_the_simulated_profile_makes_bars_and_is_healthy_on_a_read_only_root(
    containers: Containers,
) -> None:
    containers.start("simulated-init")
    containers.finish("simulated-init")
    for service in ("spark-master", "spark-worker", "simulator"):
        containers.start(service)
        containers.wait_until_healthy(service)
    for service in ("simulated-producer", "simulated-stream", "simulated-api"):
        containers.start(service)
    for service in ("simulated-producer", "simulated-stream", "simulated-api"):
        containers.wait_until_healthy(service)

    bars = wait_for(lambda: stored_bars({SYMBOL}, "5m", KEYSPACE))
    assert all(bar["trade_count"] > 0 for bar in bars.values())
