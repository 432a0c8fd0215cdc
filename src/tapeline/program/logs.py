"""Structured logs on standard error: an event name and key-values, as logfmt or JSON."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
import structlog

from tapeline.program.settings import LogFormat, LogLevel, Settings

_ORDER = ("timestamp", "level", "event")
_LONGEST_INT_BITS: Final = 1024
_DEEPEST: Final = 20
"""Levels of a value in a log; what is deeper, or holds itself, is written as Python shows it."""


def configure_logging(settings: Settings, level: LogLevel | None = None) -> None:
    """Send structured logs to standard error, a line an event; times are UTC.

    Other libraries stay at WARNING: `websockets` at DEBUG would log the request path, and
    with it the token.

    Args:
        settings: the form, and the least severe event that is logged.
        level: in place of that of the settings.
    """
    least = (level or settings.log_level).upper()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer = _renderer(settings.log_format)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    of_libraries = logging.StreamHandler(sys.stderr)
    of_libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[of_libraries], level=logging.WARNING)


def _renderer(log_format: LogFormat) -> Any:
    if log_format is LogFormat.LOGFMT:
        return structlog.processors.LogfmtRenderer(key_order=_ORDER, bool_as_flag=False)
    return structlog.processors.JSONRenderer(serializer=_json)


def _json(event: dict[str, Any], **options: Any) -> str:
    ordered = {name: event[name] for name in _ORDER if name in event} | event
    try:
        return orjson.dumps(ordered, default=options["default"]).decode()
    except orjson.JSONEncodeError:
        # Half a surrogate pair, an int of more than 64 bits, or a key that is no text.
        return json.dumps(_plain(ordered, options["default"]))


def _plain(value: Any, default: Callable[[Any], Any], depth: int = 0) -> Any:
    """Return a value made of what JSON has; `default` says what stands for anything else."""
    plain = value
    if depth == _DEEPEST:
        plain = repr(value)
    elif isinstance(value, Mapping):
        plain = {str(k): _plain(v, default, depth + 1) for k, v in value.items()}
    elif isinstance(value, (list, tuple)):
        plain = [_plain(v, default, depth + 1) for v in value]
    elif isinstance(value, float):
        plain = value if math.isfinite(value) else None
    elif isinstance(value, int):  # Python refuses to write very long ones in decimal
        plain = value if value.bit_length() <= _LONGEST_INT_BITS else hex(value)
    elif value is not None and not isinstance(value, str):
        try:
            plain = _plain(default(value), default, depth + 1)
        except Exception as error:  # noqa: BLE001 - whatever it is, the line is written
            plain = f"{type(value).__name__} that cannot be shown: {error!r}"
    return plain
