"""Fetch jars: `python scripts/fetch_jars.py FOLDER`; those of Spark's connectors, or `--all`."""

import argparse
from pathlib import Path

from rich.console import Console

from tapeline.local.jars import ALL_JARS, SPARK_JARS, fetch_jars
from tapeline.local.java import find_java

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
parser.add_argument("--all", action="store_true", help="Kafka's and Cassandra's too")
chosen = parser.parse_args()
jars = ALL_JARS if chosen.all else [SPARK_JARS]
fetch_jars(chosen.folder, jars, find_java(), Console(stderr=True))
