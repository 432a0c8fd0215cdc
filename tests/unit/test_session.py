"""What a Spark of our own is started with."""

from __future__ import annotations

import os

import pytest

from tapeline.consumer.session import _own_spark
from tapeline.program.settings import load_settings


@pytest.fixture
def own_spark(monkeypatch, tmp_path):
    """Return the configuration for a master, on an installation that has the connectors."""
    connectors = tmp_path / "connectors"
    connectors.mkdir()
    (connectors / "com.datastax.spark_spark-cassandra-connector_2.12-3.5.1.jar").touch()
    monkeypatch.setenv("SPARK_DIST_CLASSPATH", f"/opt/hadoop/*:{connectors}/*")
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JAVA_HOME", os.environ.get("JAVA_HOME", ""))
    monkeypatch.setenv("SPARK_LOCAL_IP", "")
    monkeypatch.delenv("SPARK_LOCAL_IP")

    def configuration(master):
        monkeypatch.setenv("TAPELINE_STREAM__MASTER", master)
        return _own_spark(load_settings())[0]

    return configuration


def test_an_installation_that_has_the_connectors_is_given_no_jars(own_spark, tmp_path):
    own = own_spark("spark://spark-master:7077")

    assert own["spark.master"] == "spark://spark-master:7077"
    assert "spark.jars" not in own
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("master", "address"),
    [
        ("local[2]", "127.0.0.1"),
        ("spark://127.0.0.1:7077", "127.0.0.1"),
        ("spark://localhost:7077", "127.0.0.1"),
        ("spark://spark-master:7077", None),
        ("spark://localhost.example:7077", None),
    ],
)
def test_spark_listens_on_loopback_unless_a_worker_elsewhere_must_reach_it(
    own_spark, master, address
):
    own_spark(master)

    assert os.environ.get("SPARK_LOCAL_IP") == address
