"""Run the bench as `python -m bench`."""

from bench.cli import app

app()
