"""Where checkpoints lie: on a disk of this machine, or in a file system that several hosts reach.

Both are spoken to by the calls of `pathlib.Path`, of which `Place` names those that are used.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

_DIGITS = frozenset("0123456789")


class Place(Protocol):
    """A file or folder: `pathlib.Path`, or `HadoopPath` behind a URI.

    What is not there raises FileNotFoundError. A Path raises OSError where it may not be used, a
    HadoopPath a TapelineError with a sentence.
    """

    @property
    def name(self) -> str:
        """The last part."""
        ...

    def __truediv__(self, part: str, /) -> Self:
        """Return what lies below under a name."""
        ...

    def exists(self) -> bool:
        """Return whether it is there."""
        ...

    def iterdir(self) -> Iterator[Self]:
        """Yield what lies in a folder."""
        ...

    def read_bytes(self) -> bytes:
        """Return what a file holds."""
        ...

    def write_bytes(self, data: bytes, /) -> int:
        """Make a file hold this and nothing else."""
        ...

    def mkdir(self, *, parents: bool = ..., exist_ok: bool = ...) -> None:
        """Make a folder."""
        ...

    def touch(self, *, exist_ok: bool = ...) -> None:
        """Make an empty file if there is none; without `exist_ok` nobody else may have made it.

        Raises:
            FileExistsError: it is there and may not be.
        """
        ...

    def replace(self, target: Self, /) -> Self:
        """Give a file another name, whatever has that name."""
        ...

    def rename(self, target: Self, /) -> Self:
        """Give a folder another name, which nothing has."""
        ...

    def unlink(self, *, missing_ok: bool = ...) -> None:
        """Delete a file."""
        ...


@runtime_checkable
class _Deletes(Protocol):
    def delete(self) -> None: ...


def delete_folder(place: Place) -> None:
    """Delete a folder with all that lies in it; nothing happens when it is not there."""
    if isinstance(place, Path):
        if place.exists():
            shutil.rmtree(place)
    elif isinstance(place, _Deletes):
        place.delete()


def names_in(folder: Place) -> list[str]:
    """Return the names of what lies in a folder; none when it is not there."""
    try:
        return [place.name for place in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def numbers_in(folder: Place) -> list[int]:
    """Return the names in a folder that are whole numbers, from the lowest on."""
    return sorted(int(name) for name in names_in(folder) if name and _DIGITS.issuperset(name))


def location(place: Place) -> str:
    """Return what Spark is told of a place.

    A path alone would be one of the file system that Hadoop's settings name, which on a cluster
    may be another than the disk where we look.
    """
    return f"file://{place.absolute()}" if isinstance(place, Path) else str(place)
