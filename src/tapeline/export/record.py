"""What an export has written: so that a rerun writes only what is new or was revised."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from tapeline.model.errors import UsageError
from tapeline.model.splits import NO_SPLITS, Splits
from tapeline.model.times import iso

RECORD_NAME: Final = ".tapeline-export.jsonl"
"""Hidden, in the folder of the export: its options, then one line a file."""

_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Written:
    """One file: where, its rows and bytes, and the state of the store that it shows.

    `state` is None when the file's day was not finalized, so that it is written again.
    """

    path: str
    rows: int
    size: int
    state: str | None


class Record:
    """The record of one folder, appended to after each file.

    A kill may cut its last line, or lose it behind the file: that file is written again.

    Args:
        folder: of the export; made if need be.
        options: what the files hold and how; the same for all of them.
        splits: what their bars are adjusted for, whose fingerprint the options have.

    Raises:
        UsageError: the folder holds an export with other options, or days of no export.
    """

    def __init__(
        self, folder: Path, options: Mapping[str, Any], splits: Splits = NO_SPLITS
    ) -> None:
        self._folder = folder
        self._file = folder / RECORD_NAME
        self._written: dict[str, Written] = {}
        folder.mkdir(parents=True, exist_ok=True)
        lines = _whole_lines(self._file)
        has_files = any(not p.name.startswith(".") for p in folder.glob("date=*/*"))
        if len(lines) > 1 or (lines and has_files):
            self._require_same(orjson.loads(lines[0]), dict(options), splits)
            found = (Written(**orjson.loads(line)) for line in lines[1:])
            self._written = {w.path: w for w in found}
        elif has_files:
            message = f"{folder} has days that no export of ours wrote: choose another folder."
            raise UsageError(message)
        else:
            self._file.write_bytes(orjson.dumps(dict(options)) + b"\n")

    def holds(self, path: str, state: str | None) -> bool:
        """Return whether a file is there and shows this state of the store."""
        written = self._written.get(path)
        return (
            state is not None
            and written is not None
            and written.state == state
            and self._is_there(written)
        )

    def rows_of(self, path: str) -> int:
        """Return how many rows the file has that is there; 0 when none is."""
        written = self._written.get(path)
        return written.rows if written is not None and self._is_there(written) else 0

    def add(self, path: str, rows: int, state: str | None) -> None:
        """Remember a file that has just been written."""
        written = Written(path, rows, (self._folder / path).stat().st_size, state)
        self._written[path] = written
        with self._file.open("ab") as file:
            file.write(orjson.dumps(asdict(written)) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _is_there(self, written: Written) -> bool:
        path = self._folder / written.path
        return path.is_file() and path.stat().st_size == written.size

    def _require_same(self, there: dict[str, Any], wanted: dict[str, Any], splits: Splits) -> None:
        other = [k for k in wanted if there.get(k) != wanted[k]]
        if not other:
            return
        text = ", ".join(f"{k} {there.get(k)} and not {wanted[k]}" for k in other)
        message = f"{self._folder} holds an export of {text}: choose another folder."
        new = splits.since(there.get("splits")) if other == ["splits"] else []
        if new:
            names = ", ".join(f"{s.symbol} from {iso(s.effective)} on" for s in new[:_NAMED])
            more = f" and {len(new) - _NAMED:,} more" if len(new) > _NAMED else ""
            message = (
                f"{self._folder} holds bars that are not adjusted for the split of {names}{more}, "
                "which has come into effect since, or was added: that changes all bars before it. "
                "Export everything again, into another folder."
            )
        raise UsageError(message)


def _whole_lines(file: Path) -> list[bytes]:
    """Return the lines of a record and cut what a kill left after the last of them."""
    if not file.exists():
        return []
    text = file.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        os.truncate(file, len(whole))
    return whole.splitlines()
