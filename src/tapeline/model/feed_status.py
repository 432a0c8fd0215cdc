"""What a producer reports every second to the compacted topic `feed_status`.

Finalizing needs it in a quiet market: no trade comes that would move event time, so only the
producer can say that nothing is on its way.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from tapeline.model.reports import UnreadableReportError, read_report

MOST_OFF_S: Final = 60.0
"""How far a clock may be off the feed's time before it is wrong, in seconds."""

SlotSpan = tuple[int, int | None]
"""From when to when the feed did not send a symbol, µs since the epoch; None while it does not."""


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How far one producer is with one topic.

    `last_offsets` maps each partition to the highest offset acknowledged to this producer;
    `pending` counts trades that it still holds. `started_us` is when it first heard anything,
    over all its lives, `last_message_us` when it last did, `newest_receipt_us` when its newest
    trade came, each µs since the epoch. `is_live` tells a feed of the present from a tape.
    `symbols` are all that it ever asked for, `removed` those of them that it no longer does.
    `without_slot` maps a symbol to the times for which the feed did not send it, since it refused
    it or was not asked; each is a beginning and an end in µs since the epoch, None while it lasts.
    """

    producer_id: str
    topic: str
    topic_id: str
    connected: bool
    pending: int
    last_offsets: dict[int, int]
    newest_receipt_us: int | None
    end_of_tape: bool
    frames: int
    trades: int
    dead_letters: int
    symbols: tuple[str, ...] = ()
    is_live: bool = False
    started_us: int | None = None
    last_message_us: int | None = None
    without_slot: dict[str, tuple[SlotSpan, ...]] = field(default_factory=dict)
    clock_offset_s: float | None = None
    """How far the clock of the producer's host is ahead of the feed's time, in seconds."""
    oldest_unsent_us: int | None = None
    """Nothing that Kafka has not acknowledged is older, µs since the epoch; None for nothing.

    It may be up to a second too early, and is never too late.
    It is the smallest *event* time of trades that wait, since event times are what finalizing waits
    for: a trade's receipt may be much later. It is the start of a gap whose report waits, if that
    is earlier, so that none of its bars is complete before the gap is known. It is 0 for groups of
    a spool that did not note it. An older producer never says it.
    """
    has_stopped: bool = False
    """Whether it was stopped in order, so that it adds nothing to what it holds."""
    late_us: int = 0
    """How long after their event time trades come, µs: so much earlier than by its last message a
    producer that is gone began to miss some."""
    source: str = ""
    """Where its trades come from; an older producer, whose trades are Finnhub's, never says it."""
    removed: tuple[str, ...] = ()
    made_us: int | None = None
    """When it was made, µs since the epoch; it may be sent much later, when Kafka is back."""

    @property
    def key(self) -> str:
        """The message key: one status for each topic and producer."""
        return f"{self.topic}|{self.producer_id}"

    @property
    def source_name(self) -> str:
        """Where its trades come from, of an older producer too."""
        return self.source or "finnhub"

    @property
    def subscribed(self) -> tuple[str, ...]:
        """The symbols that it asks for now."""
        removed = set(self.removed)
        return tuple(symbol for symbol in self.symbols if symbol not in removed)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Those of them that the feed does not send now."""
        spans = self.without_slot
        return tuple(s for s in self.subscribed if s in spans and spans[s][-1][1] is None)

    def to_bytes(self) -> bytes:
        """Encode for Kafka."""
        return orjson.dumps(asdict(self), option=orjson.OPT_NON_STR_KEYS)

    @classmethod
    def from_bytes(cls, value: bytes) -> FeedStatus:
        """Decode from Kafka; fields of a newer producer are ignored.

        Raises:
            UnreadableReportError: the bytes are no status.
        """
        fields = read_report(cls, value)
        try:
            fields["last_offsets"] = {int(p): o for p, o in fields["last_offsets"].items()}
            for name in ("symbols", "removed"):
                fields[name] = tuple(fields.get(name, ()))
            slots = fields.get("without_slot", {})
            fields["without_slot"] = {symbol: _spans(found) for symbol, found in slots.items()}
            return cls(**fields)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UnreadableReportError from error


def _spans(found: list[Any]) -> tuple[SlotSpan, ...]:
    """Return the times in a report; an older producer reports one alone.

    Raises:
        TypeError, ValueError: they are none.
    """
    several = found if isinstance(found[0], list) else [found]
    return tuple((since, until) for since, until in several)
