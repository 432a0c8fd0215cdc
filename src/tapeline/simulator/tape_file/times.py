"""From a column of times to milliseconds since the epoch, UTC.

A timestamp goes by its type, without a zone it is UTC. A number goes by its magnitude: the years
2000 to 2099 are 9.5e8 to 4.1e9 in seconds, and a thousand, a million and a billion times that in
ms, µs and ns, so a number is a time in one unit at most. Text is a number or ISO 8601. What is
finer than a millisecond is cut off.
"""

from __future__ import annotations

import contextlib
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tapeline.model.reasons import EARLIEST_EVENT_TIME_MS
from tapeline.model.times import LAST_TIME, now_us, to_millis
from tapeline.simulator.tape_file.cells import Cells

_PER_SECOND: Final = {
    "seconds": 1,
    "milliseconds": 1_000,
    "microseconds": 1_000_000,
    "nanoseconds": 1_000_000_000,
}
_OF_TYPE: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_FIRST_S: Final = EARLIEST_EVENT_TIME_MS // 1000
_END_S: Final = to_millis(LAST_TIME) // 1000
_MOST_AHEAD_MS: Final = 86_400_000
"""A tape may be played in real time into the day that comes; beyond, all would be dead letters."""

_NUMBER: Final = r"^(?P<whole>[0-9]{1,19})(?:[.](?P<part>[0-9]+))?$"
_ISO: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
    r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)?$"
)
_ZONE: Final = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_RANGE: Final = (
    "a time is in seconds, milliseconds, microseconds or nanoseconds since 1970, in the years 2000 "
    "to 2099"
)


def event_times(cells: Cells) -> tuple[pa.ChunkedArray, str]:
    """Return a column's times in ms since the epoch, and what the column holds, for people.

    Raises:
        TapeError: a value is no time of 2000 to tomorrow, or not in the unit of the others.
    """
    kind = cells.values.type
    if pa.types.is_dictionary(kind):
        cells = cells.of(cells.values.cast(kind.value_type))
        kind = kind.value_type
    if pa.types.is_timestamp(kind):
        times, meaning = _of_timestamps(cells), f"timestamps in {_OF_TYPE[kind.unit]}"
        meaning += f", zone {kind.tz}" if kind.tz else " without a zone, read as UTC"
    elif pa.types.is_integer(kind):
        times, meaning = _of_whole_numbers(cells, cells.values)
    elif pa.types.is_floating(kind):
        times, meaning = _of_floats(cells)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_decimal(kind):
        texts = pc.utf8_trim_whitespace(cells.values.cast(pa.string()))
        texts = pc.replace_substring_regex(texts, " ?UTC$", "Z")
        times, meaning = _of_texts(cells.of(texts))
    else:
        raise cells.refused(0, f"is of type {kind}, which is no time of day")
    latest_ms = now_us() // 1000 + _MOST_AHEAD_MS
    cells.require(pc.less_equal(times, latest_ms), "lies more than a day in the future")
    return times, meaning


def _of_timestamps(cells: Cells) -> pa.ChunkedArray:
    per_second = _PER_SECOND[_OF_TYPE[cells.values.type.unit]]
    numbers = cells.values.cast(pa.int64())
    is_good = pc.and_(
        pc.greater_equal(numbers, _FIRST_S * per_second), pc.less(numbers, _END_S * per_second)
    )
    cells.require(is_good, "is no time of the years 2000 to 2099")
    return _milliseconds(numbers, per_second)


def _of_whole_numbers(cells: Cells, numbers: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    unit = _unit_of_all(cells, numbers)
    return _milliseconds(numbers.cast(pa.int64()), _PER_SECOND[unit]), f"{unit} since 1970"


def _of_floats(cells: Cells) -> tuple[pa.ChunkedArray, str]:
    cells.require(pc.is_finite(cells.values), f"is no time: {_RANGE}")
    numbers = cells.values.cast(pa.float64())
    unit = _unit_of_all(cells, numbers)
    if unit == "seconds":
        # A float holds seconds of these years to a quarter of a microsecond.
        micros = pc.round(pc.multiply(numbers, 1e6)).cast(pa.int64())
        return _milliseconds(micros, _PER_SECOND["microseconds"]), "seconds since 1970"
    whole = pc.floor(numbers).cast(pa.int64())
    return _milliseconds(whole, _PER_SECOND[unit]), f"{unit} since 1970"


def _of_texts(cells: Cells) -> tuple[pa.ChunkedArray, str]:
    texts = cells.values
    with contextlib.suppress(pa.ArrowInvalid):  # mostly all are whole numbers
        return _of_whole_numbers(cells, texts.cast(pa.uint64()))
    is_number = pc.match_substring_regex(texts, _NUMBER)
    is_iso = pc.match_substring_regex(texts, _ISO)
    cells.require(
        pc.or_(is_number, is_iso), f"is no time: {_RANGE}, or as 2026-11-20T14:30:00.123Z"
    )
    if pc.all(is_iso).as_py():
        return _of_iso(cells), "ISO 8601"
    cells.require(is_number, "is an ISO time among numbers: one form a column")
    parts = pc.extract_regex(texts, _NUMBER)
    whole = pc.struct_field(parts, "whole").cast(pa.uint64())
    unit = _unit_of_all(cells, whole)
    times = _milliseconds(whole.cast(pa.int64()), _PER_SECOND[unit])
    if unit == "seconds":
        part = pc.utf8_slice_codeunits(
            pc.utf8_rpad(pc.struct_field(parts, "part"), width=3, padding="0"), 0, 3
        )
        times = pc.add(times, part.cast(pa.int64()))
    return times, f"{unit} since 1970"


def _of_iso(cells: Cells) -> pa.ChunkedArray:
    has_zone = pc.match_substring_regex(cells.values, _ZONE)
    in_utc = pc.binary_join_element_wise(cells.values, "Z", "")
    whole = pc.if_else(has_zone, cells.values, in_utc)
    times = cells.converted(whole, pa.timestamp("ns", "UTC"), "is no time")
    return _of_timestamps(cells.of(times))


def _unit_of_all(cells: Cells, numbers: pa.ChunkedArray) -> str:
    """Return the one unit in which all numbers are times.

    Raises:
        TapeError: there is none; the first number that does not fit is named.
    """
    ends = pc.min_max(numbers).as_py()
    first, last = _unit_of(ends["min"]), _unit_of(ends["max"])
    if first is not None and first == last:
        return first
    unit = _unit_of(numbers[0].as_py())
    if unit is None:
        raise cells.refused(0, f"is no time: {_RANGE}")
    per_second = _PER_SECOND[unit]
    fits = pc.and_(
        pc.greater_equal(numbers, _FIRST_S * per_second), pc.less(numbers, _END_S * per_second)
    )
    row = pc.index(fits, value=False).as_py()
    other = _unit_of(numbers[row].as_py())
    if other is None:
        raise cells.refused(row, f"is no time: {_RANGE}")
    raise cells.refused(
        row, f"is in {other} and the rows before it are in {unit}: one unit a column"
    )


def _unit_of(number: float) -> str | None:
    units = _PER_SECOND.items()
    return next((unit for unit, n in units if _FIRST_S * n <= number < _END_S * n), None)


def _milliseconds(numbers: pa.ChunkedArray, per_second: int) -> pa.ChunkedArray:
    """Return whole ms; all numbers are positive, so that what is cut off lies after."""
    if per_second == 1:
        return pc.multiply(numbers, 1000)
    return numbers if per_second == 1000 else pc.divide(numbers, per_second // 1000)  # noqa: PLR2004
