"""Measure Tapeline beside a plain consumer, in one run: `python -m bench --help`."""
