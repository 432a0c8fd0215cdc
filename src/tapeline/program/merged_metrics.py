"""The metrics of several parts of one process, told apart by a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from tapeline.program.metrics import PROCESS_METRICS, Metrics

_OF_PROCESS = frozenset(metric.name for metric in PROCESS_METRICS)


class MergedMetrics(Collector):
    """Several metrics as one registry: every series says by a label whose it is.

    What is the process's own is there once, and without the label.

    Args:
        label: its name, as `source`.
        parts: the metrics by the label's values.
    """

    def __init__(self, label: str, parts: Mapping[str, Metrics]) -> None:
        self._label = label
        self._parts = parts
        self.registry = CollectorRegistry()
        """What is served."""
        self.registry.register(self)

    def collect(self) -> Iterable[Family]:
        """Return each family once, with the series of all parts."""
        found: dict[str, Family] = {}
        for value, metrics in self._parts.items():
            for family in metrics.registry.collect():
                if family.name not in _OF_PROCESS:
                    family.samples = [
                        sample._replace(labels={**sample.labels, self._label: value})
                        for sample in family.samples
                    ]
                    if family.name in found:
                        found[family.name].samples += family.samples
                found.setdefault(family.name, family)
        return found.values()
