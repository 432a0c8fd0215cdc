"""Create keyspace, tables and topics: `python scripts/init_cassandra.py` is `tapeline init`."""

from tapeline.cli import run_command
from tapeline.init_command import init

run_command(init)
