"""What a user asks producers to receive, or no longer to, while they run."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import orjson

from tapeline.model.reports import UnreadableReportError, read_report


@dataclass(frozen=True, slots=True)
class SymbolChange:
    """A symbol added or removed, for all producers that read one source for one topic.

    The newest one for a symbol counts, over what a producer was started with. `changed_us` is when
    it was asked for, µs since the epoch.
    """

    topic: str
    source: str
    symbol: str
    is_wanted: bool
    changed_us: int

    @property
    def key(self) -> str:
        """The message key: the newest of each is kept."""
        return f"{self.topic}|{self.source}|{self.symbol}"

    def to_bytes(self) -> bytes:
        """Encode for Kafka."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_bytes(cls, value: bytes) -> SymbolChange:
        """Decode from Kafka; fields of a newer writer are ignored.

        Raises:
            UnreadableReportError: the bytes are no change.
        """
        try:
            return cls(**read_report(cls, value))
        except TypeError as error:
            raise UnreadableReportError from error
