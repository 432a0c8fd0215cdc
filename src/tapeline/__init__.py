"""Tapeline: real-time market bars you can trust."""

from tapeline.bars import read_bars

__all__ = ["__version__", "read_bars"]
__version__ = "0.1.0"
