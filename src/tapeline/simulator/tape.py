"""Play a tape: recorded trades in the order in which they came, cut into frames.

`tape_file/` reads it: CSV or Parquet in our own columns, a vendor's, or as the user names them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from tapeline.model.errors import TapeError
from tapeline.model.times import from_millis, iso
from tapeline.program.settings import FinnhubSettings
from tapeline.simulator.feed import FeedFrame
from tapeline.simulator.tape_file.form import TapeForm
from tapeline.simulator.tape_file.read import read_tape

_OWN_FORM: Final = TapeForm()
_MAX_FRAME_BYTES: Final = FinnhubSettings().max_frame_bytes
_BYTES_AROUND: Final = 128
"""Of a trade on the wire, beside its symbol and conditions, and of a frame, beside its trades."""
_BYTES_OF_ONE: Final = 6
"""Of a character as JSON may write it, for each byte of UTF-8."""
_BYTES_OF_A_CONDITION: Final = 3
"""Of what stands around each."""


class Tape:
    """A tape file, cut into frames of `frame_ms` milliseconds of event time.

    Trades that share a millisecond always share a frame, as long as the tape holds them
    together and a frame can hold them. A longer frame is cut between milliseconds; a single
    millisecond that no frame can hold is cut into frames of ever fewer trades, since two equal
    frames would be one that came again.

    Args:
        path: the file.
        frame_ms: milliseconds of trades that share a frame.
        form: what the user says about the file.
        max_frame_bytes: the largest frame that whoever listens will read.

    Raises:
        TapeError: the file is missing, is no tape or holds no trade.
    """

    is_live = False

    def __init__(
        self,
        path: Path,
        frame_ms: int,
        form: TapeForm = _OWN_FORM,
        max_frame_bytes: int = _MAX_FRAME_BYTES,
    ) -> None:
        self._frame_ms = frame_ms
        self._table, self.notes = read_tape(path.expanduser(), form)
        """What was understood of the file."""
        self.trades: int = self._table.num_rows
        self.symbols: tuple[str, ...] = self.notes.symbols
        self.start_ms: int = self._table["event_time_ms"][0].as_py()
        self._most = max_frame_bytes // _most_bytes_of_a_trade(self._table) - 1
        if self._most < 1:
            message = f"{path}: no trade fits into a frame of {max_frame_bytes} bytes."
            raise TapeError(message)
        self._split = _longer_milliseconds(self._table["event_time_ms"], self._most)
        self._require_in_order()

    def require_whole_milliseconds(self) -> None:
        """Refuse a tape of which a millisecond does not fit into a frame.

        Trades of one millisecond are told apart in the frame that holds them all, or across
        frames that are read at once and in order, as neither a clock nor faults leave them.

        Raises:
            TapeError: there is such a millisecond.
        """
        for time_ms, count in self._split.items():
            message = (
                f"{self.notes.path} has {count:,} trades in the one millisecond "
                f"{iso(from_millis(time_ms))}, more than a frame holds: play it with --speed max "
                "and without faults."
            )
            raise TapeError(message)

    def frames(self, _now_ms: int) -> Iterator[FeedFrame]:
        """Yield the whole tape from its start: who comes back gets all of it again."""
        slot = newest_ms = None
        trades: list[dict[str, Any]] = []
        room, begun = self._most, 0  # of this frame; where the newest millisecond begins in it
        for batch in self._table.to_batches(max_chunksize=10_000):
            for row in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                time_ms = row[0]
                if trades and time_ms // self._frame_ms != slot:
                    yield FeedFrame(trades[-1]["t"], trades)
                    trades, begun = [], 0
                if time_ms != newest_ms:
                    room, begun = self._most, len(trades)
                if len(trades) == room:
                    room = self._most if begun else room - 1
                    part = trades[: begun or room + 1]
                    yield FeedFrame(part[-1]["t"], part)
                    trades, begun = trades[len(part) :], 0
                slot, newest_ms = time_ms // self._frame_ms, time_ms
                trades.append(_wire_trade(row))
        yield FeedFrame(trades[-1]["t"], trades)

    def _require_in_order(self) -> None:
        """Refuse a millisecond that no frame holds and that comes late or in parts."""
        for time_ms, count in self._split.items():
            times = self._table["event_time_ms"]
            first = pc.index(times, value=time_ms).as_py()
            part = times.slice(first, count)
            newest_before = pc.max(times.slice(0, first)).as_py() if first else time_ms
            is_whole = pc.min_max(part).as_py() == {"min": time_ms, "max": time_ms}
            most = self._most * (self._most + 1) // 2  # in frames of ever fewer
            if not is_whole or newest_before > time_ms or count > most:
                message = (
                    f"{self.notes.path}: the {count:,} trades of {iso(from_millis(time_ms))} are "
                    "more than a frame holds, or not in order: sort the tape by time."
                )
                raise TapeError(message)


def _wire_trade(row: tuple[Any, ...]) -> dict[str, Any]:
    event_time_ms, symbol, price, volume, conditions = row
    return {
        "c": conditions.split("|") if conditions else None,
        "p": price,
        "s": symbol,
        "t": event_time_ms,
        "v": volume,
    }


def _most_bytes_of_a_trade(table: pa.Table) -> int:
    """Return more bytes than any of the trades takes on the wire."""
    symbol = pc.max(pc.binary_length(table["symbol"])).as_py()
    conditions = table["conditions"]
    longest = pc.max(pc.binary_length(conditions)).as_py() or 0
    most = pc.max(pc.count_substring(conditions, "|")).as_py() or 0
    text = _BYTES_OF_ONE * (symbol + longest)
    return int(_BYTES_AROUND + text + _BYTES_OF_A_CONDITION * (most + 1))


def _longer_milliseconds(times: pa.ChunkedArray, most: int) -> dict[int, int]:
    """Return the milliseconds that have more than so many trades, and how many each has."""
    if len(times) <= most:
        return {}
    counted = pc.value_counts(times)
    counted = counted.filter(pc.greater(pc.struct_field(counted, "counts"), most))
    return {pair["values"]: pair["counts"] for pair in counted.to_pylist()}
