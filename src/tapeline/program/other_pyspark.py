"""Import our own PySpark, though PYTHONPATH leads to that of another Spark.

An installed Spark is often put on PYTHONPATH, which goes before what is installed for Python.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

_PATH: Final = "PYTHONPATH"
_SUBMITTED: Final = "PYSPARK_GATEWAY_PORT"
"""Set by spark-submit, which runs us in its own Spark, by its own PySpark."""


def leave_other_pyspark() -> None:
    """Take folders and archives of another Spark off the path, here and for our children."""
    if _SUBMITTED in os.environ or _PATH not in os.environ:
        return
    entries = os.environ[_PATH].split(os.pathsep)
    kept = [entry for entry in entries if not _is_of_a_spark(entry)]
    if kept == entries:
        return
    gone = {os.path.realpath(entry) for entry in entries if entry and entry not in kept}
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) not in gone]
    os.environ[_PATH] = os.pathsep.join(kept)


def _is_of_a_spark(entry: str) -> bool:
    path = Path(entry)
    if path.suffix == ".zip" and path.name.startswith(("py4j-", "pyspark")):
        return True
    # What pip installs has Spark's jars within; an installed Spark has them elsewhere.
    return bool(entry) and (path / "pyspark").is_dir() and not (path / "pyspark" / "jars").is_dir()
