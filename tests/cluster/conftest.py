"""An HDFS for the tests of this folder, and checkpoints in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from tapeline.consumer.checkpoint_place import Place
from tapeline.consumer.hadoop_path import place_of
from tapeline.local.home import Home
from tests.cluster.hdfs import Hdfs, running_hdfs
from tests.pipeline import Pipeline


@pytest.fixture(scope="session")
def hdfs(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    with running_hdfs(home, tmp_path_factory.mktemp("hdfs")) as running:
        yield running


@pytest.fixture
def below(hdfs: Hdfs, spark: SparkSession, pipeline: Pipeline) -> Place:
    """The folder of this test in HDFS, in which its pipeline has its checkpoints."""
    pipeline.checkpoints_below = place_of(f"{hdfs.uri}/{pipeline.name}", lambda: spark)
    return pipeline.checkpoints_below
