"""Reports of producers in Kafka: what of them is read, and what cannot be."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import orjson


class UnreadableReportError(ValueError):
    """A message of a topic of reports is none; what it would have said is not known."""


def read_report(kind: type[Any], value: bytes) -> dict[str, Any]:
    """Return those fields of a JSON object that a dataclass has; a newer writer may add others.

    Raises:
        UnreadableReportError: the bytes are no JSON object.
    """
    found = _object_in(value)
    known = {field.name for field in fields(kind)}
    return {name: content for name, content in found.items() if name in known}


def topic_id_in(value: bytes) -> str | None:
    """Return which topic a report is of, also of one that cannot be read; None if it says none."""
    try:
        topic_id = _object_in(value).get("topic_id")
    except UnreadableReportError:
        return None
    return topic_id if isinstance(topic_id, str) else None


def _object_in(value: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise UnreadableReportError from error
    if not isinstance(found, dict):
        raise UnreadableReportError
    return found
