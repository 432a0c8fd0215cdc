"""Names of columns in files that people hand in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def named_twice(names: Iterable[str]) -> str | None:
    """Return the first name that two columns have, None if there is none."""
    return next((name for name, count in Counter(names).items() if count > 1), None)
