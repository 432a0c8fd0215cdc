"""Names that users choose: of keyspaces, topics and producers, and which are valid."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from tapeline.model.errors import UsageError

_KEYSPACE: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_PRODUCER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FOLDERS: Final = frozenset({".", ".."})


def keyspace_name(name: str) -> str:
    """Return a name of a keyspace that is safe to stand in CQL, where it cannot be bound.

    Raises:
        ValueError: it is not lower-case letters, digits and `_`, at most 48, a letter first.
    """
    if not _KEYSPACE.fullmatch(name):
        message = (
            f"{name!r} is not a valid keyspace name: use lower-case letters, digits and _, "
            "at most 48, a letter first."
        )
        raise ValueError(message)
    return name


def topic_name(name: str) -> str:
    """Return a name of a topic that Kafka takes.

    Raises:
        ValueError: it is not letters, digits, `.`, `_` and `-`, at most 249.
    """
    if not _TOPIC.fullmatch(name) or name in _FOLDERS:
        message = (
            f"{name!r} is not a valid topic name: use letters, digits, '.', _ and -, at most 249."
        )
        raise ValueError(message)
    return name


def producer_name(name: str) -> str:
    """Return a name of a producer, which is also a folder's.

    Raises:
        ValueError: it is not letters, digits, `.`, `_` and `-`, at most 100.
    """
    if not _PRODUCER.fullmatch(name):
        message = (
            f"{name!r} is not a valid name of a producer: use letters, digits, '.', _ and -, "
            "at most 100, a letter or digit first."
        )
        raise ValueError(message)
    return name


def check_keyspace_name(name: str) -> str:
    """Return a name of a keyspace; UsageError where `keyspace_name` has ValueError."""
    return _checked(keyspace_name, name)


def check_topic_name(name: str) -> str:
    """Return a name of a topic; UsageError where `topic_name` has ValueError."""
    return _checked(topic_name, name)


def check_producer_name(name: str) -> str:
    """Return a name of a producer; UsageError where `producer_name` has ValueError."""
    return _checked(producer_name, name)


def _checked(check: Callable[[str], str], name: str) -> str:
    try:
        return check(name)
    except ValueError as error:
        raise UsageError(str(error)) from None
