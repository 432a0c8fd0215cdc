"""Counts in sentences for people."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a count and what is counted: `1 file`, `1,200 files`.

    Args:
        number: how many there are.
        one: what follows a 1.
        many: what follows any other number; None is the same with an s.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
