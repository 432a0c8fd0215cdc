"""Tapeline: real-time market bars you can trust."""

from tapeline.bars import read_bars
from tapeline.trades import read_trades

__all__ = ["__version__", "read_bars", "read_trades"]
__version__ = "0.1.0"
