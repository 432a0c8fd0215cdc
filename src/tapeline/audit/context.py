"""What every check of an audit needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tapeline.audit.baseline import Baseline
from tapeline.audit.difference import Pair
from tapeline.audit.findings import Findings
from tapeline.audit.kafka_reader import TopicReader
from tapeline.audit.meanwhile import Meanwhile
from tapeline.audit.scope import Scope
from tapeline.audit.silver_gold import BarsCompared
from tapeline.storage.cassandra_client import CassandraClient

NO_KAFKA: Final = "messages that Kafka no longer holds"
NO_BRONZE: Final = "windows of which bronze has expired messages"
NO_SILVER: Final = "windows of which silver has expired trades"
NO_TOPIC: Final = (
    "windows of topics that no longer exist, which a stream or `tapeline rebuild gold` makes final"
)
NO_GOLD: Final = "windows whose bars have expired"

Advance = Callable[[int], None]
"""Takes how much further a check got."""


@dataclass(frozen=True, slots=True)
class Context:
    """Where rows come from, which of them to look at, and who takes the differences."""

    client: CassandraClient
    kafka: TopicReader
    baseline: Baseline
    scope: Scope
    meanwhile: Meanwhile
    findings: Findings = field(default_factory=Findings)

    def note(self, pair: Pair, compared: BarsCompared) -> None:
        """Take what a comparison of bars found."""
        self.findings.checked(pair, compared.checked, compared.differences)
        self.findings.not_yet(pair, compared.not_yet)
        for what, keys in (
            (NO_SILVER, compared.without_silver),
            (NO_GOLD, compared.without_gold),
            (NO_TOPIC, compared.without_topic),
        ):
            self.findings.not_auditable(pair, what, (start for _, start in keys))
