"""Our own Spark is started, whatever another one has left in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from tapeline.consumer.own_spark import leave_other_spark

OWN = str(Path(pyspark.__path__[0]))
LEADING = {
    "SPARK_HOME": "/opt/spark-3.4",
    "SPARK_CONF_DIR": "/opt/spark-3.4/conf",
    "SPARK_DIST_CLASSPATH": "/opt/hadoop/*",
    "SPARK_REMOTE": "sc://elsewhere",
    "PYSPARK_PYTHON": "python2",
    "PYSPARK_DRIVER_PYTHON": "jupyter",
    "PYSPARK_SUBMIT_ARGS": "--master yarn pyspark-shell",
}
HADOOP = {"HADOOP_CONF_DIR": "/etc/hadoop", "YARN_CONF_DIR": "/etc/hadoop"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any Spark, restored afterwards."""
    for name in (*os.environ, "SPARK_HOME"):
        if name.startswith(("SPARK_", "PYSPARK_")):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
    return monkeypatch


def test_what_leads_to_another_spark_is_left(environment: pytest.MonkeyPatch) -> None:
    for name, value in {**LEADING, **HADOOP, "SPARK_LOCAL_DIRS": "/scratch"}.items():
        environment.setenv(name, value)

    leave_other_spark(is_local=True)

    there = {n: v for n, v in os.environ.items() if "SPARK" in n or n in HADOOP}
    assert there == {"SPARK_HOME": OWN, "SPARK_LOCAL_DIRS": "/scratch"}


def test_a_cluster_keeps_its_hadoop(environment: pytest.MonkeyPatch) -> None:
    for name, value in {**LEADING, **HADOOP}.items():
        environment.setenv(name, value)

    leave_other_spark(is_local=False)

    assert {name: os.environ.get(name) for name in HADOOP} == HADOOP
    assert "SPARK_CONF_DIR" not in os.environ


def test_an_environment_that_names_our_own_spark_stays(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    link = tmp_path / "spark"
    link.symlink_to(OWN)
    environment.setenv("SPARK_HOME", str(link))
    environment.setenv("SPARK_CONF_DIR", "/app/deploy/spark")

    leave_other_spark(is_local=True)

    assert os.environ["SPARK_HOME"] == str(link)
    assert os.environ["SPARK_CONF_DIR"] == "/app/deploy/spark"


def test_a_class_path_that_brings_our_connectors_stays(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "spark-cassandra-connector_2.12-3.5.1.jar").touch()
    environment.setenv("SPARK_DIST_CLASSPATH", f"{tmp_path}/*")

    leave_other_spark(is_local=True)

    assert os.environ["SPARK_DIST_CLASSPATH"] == f"{tmp_path}/*"
    assert os.environ["SPARK_HOME"] == OWN


def test_our_own_pyspark_is_imported_though_pythonpath_leads_to_another(tmp_path: Path) -> None:
    other = tmp_path / "spark" / "python"
    (other / "pyspark").mkdir(parents=True)
    (other / "pyspark" / "__init__.py").write_text("raise ImportError('another Spark')")
    archive = other / "lib" / "py4j-0.10.9.5-src.zip"
    archive.parent.mkdir()
    archive.touch()
    mine = tmp_path / "mine"
    mine.mkdir()
    sources = [entry for entry in sys.path if (Path(entry) / "tapeline").is_dir()]
    path = os.pathsep.join([str(other), str(archive), str(mine), *sources])
    code = (
        "import os, tapeline.consumer.session, pyspark\n"
        "print(pyspark.__path__[0], os.environ['PYTHONPATH'], sep='|')"
    )

    shown = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )

    assert shown.stdout.strip().split("|") == [OWN, os.pathsep.join([str(mine), *sources])]
