"""A standalone Spark: a master and two workers with folders of their own, and drivers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tapeline.consumer.own_spark import own_spark_home
from tapeline.local.jars import SPARK_JARS, jar_folder
from tapeline.local.java import find_java, java_environment
from tapeline.local.service import LOOPBACK
from tests.cluster.member import Member, own_ports
from tests.commands import ROOT

_MASTER = "org.apache.spark.deploy.master.Master"
_WORKER = "org.apache.spark.deploy.worker.Worker"
_SMALL = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
WORKERS = 2


def make_spark(folder: Path) -> tuple[list[Member], str, str]:
    """Return a master, its workers, the master's URL and its page."""
    port, web, *webs = own_ports(2 + WORKERS)
    url, page = f"spark://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{web}"
    start = [own_spark_home() / "bin" / "spark-class"]
    command = [*start, _MASTER, "--host", LOOPBACK, "--port", str(port), "--webui-port", str(web)]
    answers = partial(_has_page, page)
    members = [Member("Spark's master", command, _environment(), folder / "master", answers)]
    for number, own_web in enumerate(webs, 1):
        own = folder / f"worker-{number}"
        sizes = ["--cores", "1", "--memory", "1g", "--webui-port", str(own_web)]
        command = [*start, _WORKER, *sizes, "--work-dir", own / "work", url]
        answers = partial(_has_page, f"http://{LOOPBACK}:{own_web}")
        members.append(Member(f"worker {number}", command, _environment(), own, answers))
    return members, url, page


def state_of(page: str) -> dict[str, Any]:
    """Return what the master says of its workers and applications."""
    answer: dict[str, Any] = httpx.get(f"{page}/json/", timeout=10).raise_for_status().json()
    return answer


def executors(page: str) -> int:
    """Return how many cores the applications have."""
    return int(state_of(page)["coresused"])


def _has_page(page: str) -> bool:
    try:
        return httpx.get(f"{page}/json/", timeout=5).is_success
    except httpx.HTTPError:
        return False


def _environment() -> dict[str, str]:
    return {
        **java_environment(find_java()),
        "SPARK_HOME": str(own_spark_home()),
        "SPARK_LOCAL_IP": LOOPBACK,
        "SPARK_DAEMON_MEMORY": "192m",
        "SPARK_DAEMON_JAVA_OPTS": _SMALL,
        "PYSPARK_PYTHON": sys.executable,
    }


@dataclass
class Host:
    """What tells one host from another for a driver: a home and a working folder of its own."""

    folder: Path
    jars: Path
    logs: list[Path] = field(default_factory=list)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def submit(
        self, url: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a driver here."""
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        connectors = sorted(jar_folder(self.jars, SPARK_JARS).glob("*.jar"))
        command = [
            *(own_spark_home() / "bin" / "spark-submit", "--master", url),
            *("--driver-memory", "768m", "--executor-memory", "640m", "--executor-cores", "1"),
            *("--jars", ",".join(map(str, connectors)), "--driver-java-options", _SMALL),
            *("--conf", f"spark.executor.extraJavaOptions={_SMALL}"),
            *(ROOT / "src" / "consumer" / "main.py", *arguments),
        ]
        self.logs.append(self.folder / f"driver-{len(self.logs)}.log")
        with self.logs[-1].open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_environment(), **environment, "TAPELINE_HOME": str(home)},
                cwd=self.folder,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def log(self) -> str:
        """Return what the newest driver here has printed so far."""
        return self.logs[-1].read_text(encoding="utf-8", errors="replace")

    def kill(self) -> float:
        """End the newest driver, its Java and its Python; return when, by the monotonic clock."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._processes[-1].pid, signal.SIGKILL)
        self._processes[-1].wait()
        return time.monotonic()

    def end(self) -> None:
        if self._processes:
            self.kill()
