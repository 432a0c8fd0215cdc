"""Raw results as JSON: one file a scenario and run, with the machine and the versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

FOLDER: Final = Path(__file__).with_name("results")
"""Where results are kept; not part of the repository."""
_PACKAGES: Final = (
    *("tapeline", "pyspark", "confluent-kafka", "fastavro", "acsylla", "cassandra-driver"),
)
_GB: Final = 2**30


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / _GB),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def versions(jars: Path) -> dict[str, str]:
    """Return the versions of what was measured.

    Args:
        jars: folder of the jars, whose own folders are named by version.
    """
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    for folder in sorted(jars.iterdir()):
        name, _, number = folder.name.partition("-")
        if number[:1].isdigit() and folder.is_dir():
            found.setdefault(name, number)
    return {**found, "commit": _commit()}


def save(
    scenario: str, options: dict[str, Any], runs: Iterable[dict[str, Any]], jars: Path
) -> Path:
    """Write the results of one scenario; return the file."""
    now = datetime.now(timezone.utc)
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{now:%Y%m%d-%H%M%S}-{scenario}.json"
    content = {
        "scenario": scenario,
        "measured_at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(jars),
        "options": options,
        "runs": list(runs),
    }
    path.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    import tapeline  # noqa: PLC0415 - where it was imported from is what is asked

    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],  # noqa: S607 - git of the PATH
        cwd=Path(tapeline.__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
