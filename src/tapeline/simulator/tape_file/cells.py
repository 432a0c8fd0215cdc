"""One column of a tape while it is read, which names the row and the value that is wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tapeline.model.errors import TapeError

_MOST_OF_A_VALUE: Final = 60
_MOST_OF_A_REASON: Final = 300
"""Characters; a reason may hold a whole line of the file."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The values of a column; the first is of row `first_row` to people."""

    path: Path
    name: str
    values: pa.ChunkedArray
    first_row: int

    def of(self, values: pa.ChunkedArray) -> Cells:
        """Return the same column with other values, one a row."""
        return replace(self, values=values)

    def refused(self, index: int, why: str) -> TapeError:
        """Return the error that names a value; `why` goes on the sentence."""
        shown = "" if index >= len(self.values) else one_line(str(self.values[index].as_py()))
        where = f"column {one_line(self.name)}, row {index + self.first_row}"
        message = f"{self.path} is no tape: {where}: {shown[:_MOST_OF_A_VALUE]!r} {why}."
        return TapeError(message)

    def require(self, is_good: pa.ChunkedArray, why: str) -> None:
        """Refuse the first value that is not good.

        Raises:
            TapeError: there is one.
        """
        first = pc.index(is_good, value=False).as_py()
        if first >= 0:
            raise self.refused(first, why)

    def require_none(self, is_bad: pa.ChunkedArray, what: str) -> None:
        """Refuse a column with values of which each is as bad as the other, and count them.

        Raises:
            TapeError: there is one.
        """
        first = pc.index(is_bad, value=True).as_py()
        if first >= 0:
            count = pc.sum(is_bad).as_py()
            message = (
                f"{self.path}: column {one_line(self.name)} has {count} {what} values, the first "
                f"in row {first + self.first_row}."
            )
            raise TapeError(message)

    def converted(self, values: pa.ChunkedArray, kind: pa.DataType, why: str) -> pa.ChunkedArray:
        """Return values, one of each of ours, in another type; refuse what has none.

        Raises:
            TapeError: a value cannot be converted.
        """
        try:
            return values.cast(kind)
        except pa.ArrowInvalid:
            first, end = 0, len(values)
        while end - first > 1:  # the first half in which one fails
            middle = (first + end) // 2
            try:
                values.slice(first, middle - first).cast(kind)
                first = middle
            except pa.ArrowInvalid:
                end = middle
        raise self.refused(first, why)


def one_line(text: str) -> str:
    """Return a text, perhaps of the file, as it may stand in a sentence."""
    text = " ".join(text.split()).rstrip(".")
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= _MOST_OF_A_REASON else text[:_MOST_OF_A_REASON] + "…"
