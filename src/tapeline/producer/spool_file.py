"""The form of the spool's files: groups of messages, each with a checksum.

A group is its marker, a CRC-32 and a length (4 bytes each), then what they are of: the group's
number, the highest number that Kafka has acknowledged, the newest receipt, the oldest time, how
many messages, the topics, four lengths a message, and the bytes. All numbers are little-endian.
A group of the first form, with another marker, has no oldest time.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import orjson

from tapeline.producer.unsent_times import NO_TIME

_MARKER: Final = b"TLs2"
_PREFIX: Final = struct.Struct("<4sII")
_HEAD: Final = struct.Struct("<QQqqII")
_ANY_MARKER: Final = b"TLs"
_HEADS: Final = {_MARKER: _HEAD, b"TLsp": struct.Struct("<QQqII")}
"""By their markers."""
_NOT_KNOWN_US: Final = 0
_LENGTHS: Final = 4
"""Of each message: its topic's place, and the bytes of key, value and headers."""


class SpooledMessage(NamedTuple):
    """One message as it goes to Kafka; header values are text."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Group(NamedTuple):
    """Messages that were written together; numbers rise by one, times are as in `GroupHead`."""

    number: int
    receipt_us: int
    messages: Sequence[SpooledMessage]
    oldest_us: int = NO_TIME


class GroupHead(NamedTuple):
    """What a group says of itself.

    `acknowledged` is the highest number of a group that Kafka had all of when this one was
    written, and `receipt_us` the newest receipt until then, µs since the epoch, 0 for none.
    `oldest_us` is a time that none of its messages is older than, 0 where that was not noted,
    `NO_TIME` where they have none. `start` and `end` are its place in the file.
    """

    number: int
    acknowledged: int
    receipt_us: int
    oldest_us: int
    messages: int
    start: int
    end: int


class Damage(NamedTuple):
    """Bytes of a file that are no group; nothing readable follows when `is_tail`."""

    start: int
    end: int
    is_tail: bool


def encode_group(
    number: int,
    acknowledged: int,
    receipt_us: int,
    oldest_us: int,
    messages: Sequence[SpooledMessage],
) -> bytes:
    """Return the bytes of a group."""
    places = {topic: place for place, topic in enumerate({m.topic: None for m in messages})}
    topics = orjson.dumps(list(places))
    lengths: list[int] = []
    blobs: list[bytes] = []
    for topic, key, value, headers in messages:
        packed = orjson.dumps(headers) if headers else b""
        lengths += (places[topic], len(key), len(value), len(packed))
        blobs += (key, value, packed)
    head = _HEAD.pack(number, acknowledged, receipt_us, oldest_us, len(messages), len(topics))
    table = struct.pack(f"<{len(lengths)}I", *lengths)
    content = b"".join((head, topics, table, *blobs))
    return _PREFIX.pack(_MARKER, zlib.crc32(content), len(content)) + content


def scan(data: bytes) -> Iterator[GroupHead | Damage]:
    """Yield the groups of a file in order, and what lies between and behind them."""
    at = 0
    while at < len(data):
        head = _head_at(data, at)
        if head is None:
            following = _next_group(data, at + 1)
            end = len(data) if following is None else following
            yield Damage(at, end, is_tail=following is None)
            at = end
        else:
            yield head
            at = head.end


def messages_of(data: bytes, head: GroupHead) -> list[SpooledMessage]:
    """Return the messages of a group that `scan` has found in the data."""
    form = _HEADS[data[head.start : head.start + len(_MARKER)]]
    at = head.start + _PREFIX.size
    topics_length = form.unpack_from(data, at)[-1]
    at += form.size
    topics: list[str] = orjson.loads(data[at : at + topics_length])
    at += topics_length
    count = head.messages * _LENGTHS
    lengths = struct.unpack_from(f"<{count}I", data, at)
    at += 4 * count
    found = []
    for place, key, value, headers in zip(*[iter(lengths)] * _LENGTHS, strict=True):
        value_at, headers_at = at + key, at + key + value
        end = headers_at + headers
        found.append(
            SpooledMessage(
                topics[place],
                data[at:value_at],
                data[value_at:headers_at],
                _headers_of(data[headers_at:end]),
            )
        )
        at = end
    return found


def _headers_of(packed: bytes) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in orjson.loads(packed)) if packed else ()


def _head_at(data: bytes, at: int) -> GroupHead | None:
    """Return the group that begins here, None when none that is whole does."""
    if len(data) - at < _PREFIX.size:
        return None
    marker, checksum, length = _PREFIX.unpack_from(data, at)
    form = _HEADS.get(marker)
    start, end = at + _PREFIX.size, at + _PREFIX.size + length
    if form is None or length < form.size or end > len(data):
        return None
    if zlib.crc32(memoryview(data)[start:end]) != checksum:
        return None
    number, acknowledged, receipt_us, *oldest, messages, _ = form.unpack_from(data, start)
    oldest_us = oldest[0] if oldest else _NOT_KNOWN_US
    return GroupHead(number, acknowledged, receipt_us, oldest_us, messages, at, end)


def _next_group(data: bytes, at: int) -> int | None:
    while (at := data.find(_ANY_MARKER, at)) >= 0:
        if _head_at(data, at) is not None:
            return at
        at += 1
    return None
