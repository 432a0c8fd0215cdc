"""Create keyspace, tables and topics: `python scripts/init_cassandra.py` is `tapeline init`."""

from tapeline.command import run_command
from tapeline.init_command import init

run_command(init)
