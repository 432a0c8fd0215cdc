"""Structured logs on standard error: an event name and key-values, as logfmt or JSON."""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
import structlog

from tapeline.program.settings import LogFormat, LogLevel, Settings

_ORDER = ("timestamp", "level", "event")


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
    first = {name: event[name] for name in _ORDER if name in event}
    return orjson.dumps(first | event, default=options["default"]).decode()
