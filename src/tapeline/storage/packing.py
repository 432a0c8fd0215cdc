"""Values of a prepared statement as the bytes that Cassandra takes, cheaper than by the driver.

The driver looks each column up again for each row. A bar has 27 values, and packing them is most
of what writing it costs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, Final

from cassandra.cqltypes import DecimalType, SimpleDateType
from cassandra.query import UNSET_VALUE, BoundStatement, PreparedStatement

from tapeline.model.times import as_utc, to_millis

_TIMES_KEPT: Final = 10_000
"""Bars of one write have few different times."""
_LONG: Final = struct.Struct(">q").pack
_INT: Final = struct.Struct(">i").pack


class Packer:
    """Binds rows to one prepared statement.

    Args:
        statement: as the driver prepared it.
        protocol_version: of the connection.
    """

    def __init__(self, statement: PreparedStatement, protocol_version: int) -> None:
        self._statement = statement
        self._pack = [
            _PACKERS.get(column.type.typename)
            or partial(column.type.serialize, protocol_version=protocol_version)
            for column in statement.column_metadata
        ]

    def bind(self, row: Sequence[Any]) -> BoundStatement:
        """Bind a value to each mark of the statement, in its order.

        Raises:
            TypeError, struct.error, ValueError: a value is not of its column's type, or missing.
        """
        bound = BoundStatement(self._statement)
        bound.values = [
            value if value is None or value is UNSET_VALUE else pack(value)
            for pack, value in zip(self._pack, row, strict=True)
        ]
        return bound


@lru_cache(_TIMES_KEPT)
def _pack_time(time: datetime) -> bytes:
    return _LONG(to_millis(time if time.tzinfo else as_utc(time)))


@lru_cache(_TIMES_KEPT)
def _pack_date(day: date) -> bytes:
    packed: bytes = SimpleDateType.serialize(day, 0)  # the same in every version
    return packed


def _pack_decimal(value: Decimal) -> bytes:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent > 0:
        packed: bytes = DecimalType.serialize(value, 0)  # the same in every version
        return packed
    # The digits are one number, in as few bytes as hold its sign too.
    number = int(f"{value:f}".replace(".", ""))
    bits = (number if number >= 0 else ~number).bit_length()
    return _INT(-exponent) + number.to_bytes(bits // 8 + 1, "big", signed=True)


_PACKERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "bigint": _LONG,
    "boolean": lambda value: b"\x01" if value else b"\x00",
    "date": _pack_date,
    "decimal": _pack_decimal,
    "double": struct.Struct(">d").pack,
    "int": _INT,
    "text": str.encode,
    "timestamp": _pack_time,
}
