"""Start our own Spark, whatever other one the environment leads to.

Who has a Spark installed has variables set that lead its scripts to another version's jars, to
defaults of its own, to a Hadoop in place of the disk. A Spark of that kind is reached by its own
spark-submit, which runs our driver in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pyspark
import structlog

log = structlog.get_logger()

_HOME: Final = "SPARK_HOME"
_CLASS_PATH: Final = "SPARK_DIST_CLASSPATH"
_OF_THE_MACHINE: Final = frozenset(
    {
        "SPARK_LOCAL_DIRS",
        "SPARK_LOCAL_HOSTNAME",
        "SPARK_LOCAL_IP",
        "SPARK_PUBLIC_DNS",
        "SPARK_USER",
    }
)
"""What tells of this machine rather than of a Spark on it."""
_HADOOP: Final = frozenset({"HADOOP_CONF_DIR", "YARN_CONF_DIR"})


def own_spark_home() -> Path:
    """Return the folder of the Spark that came with our PySpark."""
    return Path(pyspark.__path__[0])


def leave_other_spark(*, is_local: bool) -> None:
    """Take out of this process's environment what leads to another Spark, and name ours.

    An environment that names our own, as that of our image, is left as it is; so is a class path
    that brings our connectors.

    Args:
        is_local: Spark runs in one process, so no Hadoop of a cluster is meant either.
    """
    own = own_spark_home()
    named = os.environ.get(_HOME)
    if named and Path(named).resolve() == own.resolve():
        return
    left = sorted(name for name in os.environ if _leads_elsewhere(name, is_local=is_local))
    for name in left:
        del os.environ[name]
    os.environ[_HOME] = str(own)  # found by itself otherwise, by two processes of Python
    if left:
        log.info("other_spark_left", variables=left, uses=str(own))


def brings_connectors(class_path: str) -> bool:
    """Return whether Spark's installation has the connectors, as that of our image does.

    Args:
        class_path: jars and `FOLDER/*` that Spark adds at the end of its own.
    """
    folders = (Path(entry).parent for entry in class_path.split(os.pathsep) if entry)
    return any(jar for f in folders for jar in f.glob("*spark-cassandra-connector_*.jar"))


def _leads_elsewhere(name: str, *, is_local: bool) -> bool:
    if name in _HADOOP:
        return is_local
    if name == _CLASS_PATH:
        return not brings_connectors(os.environ[name])
    return name.startswith(("SPARK_", "PYSPARK_")) and name not in _OF_THE_MACHINE
