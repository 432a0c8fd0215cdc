"""Tapeline: real-time market bars you can trust."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeline.client.bars import stream_bars
    from tapeline.client.trades import stream_trades
    from tapeline.read.bars import read_bars
    from tapeline.read.trades import read_trades

    __version__: str

__all__ = ["__version__", "read_bars", "read_trades", "stream_bars", "stream_trades"]

_READERS = {
    "read_bars": "tapeline.read.bars",
    "read_trades": "tapeline.read.trades",
    "stream_bars": "tapeline.client.bars",
    "stream_trades": "tapeline.client.trades",
}


def __getattr__(name: str) -> Any:
    """Load a reader when it is asked for: most commands need neither Arrow nor Cassandra's driver.

    The version is that of the installed package, which has it from `pyproject.toml`.

    Raises:
        AttributeError: there is none of that name.
    """
    if name == "__version__":
        return import_module("importlib.metadata").version(__name__)
    if name not in _READERS:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_READERS[name]), name)
