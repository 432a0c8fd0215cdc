"""Create keyspace, tables and topics: `python scripts/init_cassandra.py` is `tapeline init`."""

from tapeline.cli.init import init
from tapeline.program.command import run_command

run_command(init)
