"""Measure Tapeline beside a plain consumer, on one machine, in one run: `python -m bench --help`."""
