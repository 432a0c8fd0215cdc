"""Launcher: `python -m src.producer.main` is `tapeline produce`."""

from tapeline.producer.main import main

main()
