"""Fetch the jars of Spark's connectors: `python scripts/fetch_jars.py FOLDER`."""

import sys
from pathlib import Path

from rich.console import Console

from tapeline.local.jars import SPARK_JARS, fetch_jars
from tapeline.local.java import find_java

fetch_jars(Path(sys.argv[1]), [SPARK_JARS], find_java(), Console(stderr=True))
