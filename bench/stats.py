"""Percentiles, medians and spreads of small samples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent do not exceed, by nearest rank.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        message = "no value was measured"
        raise ValueError(message)
    ordered = sorted(values)
    rank = -(-percent * len(ordered) // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


@dataclass(frozen=True, slots=True)
class Summary:
    """Several rounds of one figure."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Return the summary of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))

    def to_json(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        return asdict(self)


def latency(values_s: Sequence[float]) -> dict[str, float]:
    """Return what is reported of some delays, in seconds."""
    return {
        "p50_s": percentile(values_s, 50),
        "p99_s": percentile(values_s, 99),
        "max_s": max(values_s),
        "count": len(values_s),
    }
