"""Launcher: `python -m src.consumer.main` is `tapeline stream`."""

from tapeline.consumer.main import main

main()
