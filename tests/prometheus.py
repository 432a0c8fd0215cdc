"""A real Prometheus that watches what a test runs, by our own rules, sixty times as fast."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import pytest
import yaml

from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK

from .alert_rules import PROMETHEUS, ROOT, RULES
from .commands import TIMEOUT_S, wait_for

FASTER = 60
"""A minute of the rules is a second of the test."""
INTERVAL = "500ms"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def program(name: str) -> str:
    """Return the path of `prometheus` or `promtool`; a test that needs it fails without."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(
            f"{name} is not on the PATH: install Prometheus (Debian: apt-get install "
            "--no-install-recommends prometheus).",
            pytrace=False,
        )
    return path


def promtool(*arguments: str | Path) -> str:
    """Run promtool, which must succeed, and return what it says."""
    command = [program("promtool"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass
class RunningPrometheus:
    """A server that answers at its address."""

    url: str
    process: subprocess.Popen[str]

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer of its API."""
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(query)}", timeout=60) as response:  # noqa: S310 - our own
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def firing(self) -> set[str]:
        """Return which alerts fire, each as `alert of part`."""
        found = self.ask("alerts")["alerts"]
        return {_told(alert["labels"]) for alert in found if alert["state"] == "firing"}

    def ever_fired(self) -> set[str]:
        """Return which alerts have fired since the start."""
        found = self.ask("query", query='ALERTS{alertstate="firing"}[1h]')["result"]
        return {_told(series["metric"]) for series in found}

    def wait_until_fires(self, alert: str) -> None:
        """Wait until an alert fires."""
        wait_for(lambda: alert in self.firing(), while_runs=self.process)

    def wait_until_over(self, alert: str) -> None:
        """Wait until an alert does not fire any more."""
        wait_for(lambda: alert not in self.firing(), while_runs=self.process)

    def wait_until_all_are_up(self, parts: int) -> None:
        """Wait until so many targets answer."""
        wait_for(lambda: len(self.ask("query", query="up == 1")["result"]) == parts)


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str]) -> Iterator[RunningPrometheus]:
    """Run a Prometheus for a while.

    Args:
        folder: for its files and data.
        targets: address of the metrics of each part.
    """
    folder.mkdir()
    _write_files(folder, targets)
    options = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
    ]
    with _running(folder, options) as running:
        wait_for(lambda: running.process.poll() is not None or _is_ready(running))
        assert running.process.poll() is None, _log_in(folder).read_text(encoding="utf-8")
        yield running


@contextmanager
def composed_prometheus(folder: Path, watched: str) -> Iterator[RunningPrometheus]:
    """Run the Prometheus of docker-compose.yml until its health check succeeds, and a while.

    Args:
        folder: stands for the root of its container.
        watched: the profile that it watches, as the variable `WATCHED` says.
    """
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    service = compose["services"]["prometheus"]
    for volume in service["volumes"]:
        source, place, *_ = volume.replace("${WATCHED:-app}", watched).split(":")
        inside = folder / place.removeprefix("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        if source.startswith("./"):
            shutil.copy(ROOT / source, inside)
        else:
            inside.mkdir()
    options = [option.replace("=/", f"={folder}/") for option in service["command"]]
    kind, check = service["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    with _running(folder, options) as running:
        check = check.replace("http://localhost:9090", running.url)

        def is_healthy() -> bool:
            return subprocess.run(["/bin/sh", "-c", check], check=False, timeout=60).returncode == 0

        wait_for(is_healthy, while_runs=running.process)
        wait_for(lambda: running.ask("targets")["activeTargets"])
        yield running


@contextmanager
def _running(folder: Path, options: Sequence[str]) -> Iterator[RunningPrometheus]:
    """Run a Prometheus with some options, at a port that is free; it may not be ready yet."""
    url = f"{LOOPBACK}:{free_port(0)}"
    with _log_in(folder).open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [program("prometheus"), *options, f"--web.listen-address={url}"],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield RunningPrometheus(f"http://{url}", process)
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def _log_in(folder: Path) -> Path:
    return folder / "prometheus.log"


def answers(watching: RunningPrometheus, query: str) -> bool:
    """Ask a query of the dashboard, and return whether there was anything to draw."""
    query = query.replace("$job", "tapeline").replace("$__rate_interval", "5s")
    return bool(watching.ask("query", query=query)["result"])


def _told(labels: Mapping[str, str]) -> str:
    return f"{labels['alertname']} of {labels.get('part') or labels['job']}"


def _write_files(folder: Path, targets: Mapping[str, str]) -> None:
    config = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    config, changed = re.subn(r"(_interval: )15s", rf"\g<1>{INTERVAL}", config)
    assert changed == 2
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    (folder / RULES.name).write_text(hurried(RULES.read_text(encoding="utf-8")), encoding="utf-8")
    found = [
        {"targets": [urlsplit(url).netloc], "labels": {"part": part}}
        for part, url in targets.items()
    ]
    (folder / "targets.yml").write_text(yaml.safe_dump(found), encoding="utf-8")


def hurried(rules: str) -> str:
    """Return the rules with every length of time divided by `FASTER`."""

    def shorter(match: re.Match[str]) -> str:
        seconds = int(match[2]) * _SECONDS[match[3]]
        return f"{match[1]}{round(seconds * 1000 / FASTER)}ms"

    rules, lengths = re.subn(r"(\bfor: |\[)(\d+)([smhd])\b", shorter, rules)
    rules, rates = re.subn(r"\b(\d+)( \* rate)", lambda m: f"{int(m[1]) / FASTER}{m[2]}", rules)
    rules, ages = re.subn(
        r"(timestamp_seconds < )(\d+)", lambda m: f"{m[1]}{int(m[2]) / FASTER}", rules
    )
    assert lengths > rates > 0
    assert ages > 0
    return rules


def _is_ready(running: RunningPrometheus) -> bool:
    try:
        with urlopen(f"{running.url}/-/ready", timeout=10) as response:  # noqa: S310 - our own
            return bool(response.status == 200)
    except OSError:
        return False
