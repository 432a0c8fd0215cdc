"""The `tapeline` command."""

from __future__ import annotations

from tapeline.cli.app import main

__all__ = ["main"]
