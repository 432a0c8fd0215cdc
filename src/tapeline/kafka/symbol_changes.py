"""Symbols added and removed at run time: a compacted topic, from users to producers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import structlog
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from tapeline.kafka.client import client_options
from tapeline.kafka.no_access import no_access
from tapeline.kafka.offsets import next_offsets
from tapeline.kafka.topics import NO_TOPIC
from tapeline.model.errors import SchemaError, ServiceUnavailableError
from tapeline.model.reports import UnreadableReportError
from tapeline.model.symbol_change import SymbolChange
from tapeline.program.service_settings import KafkaSettings

log = structlog.get_logger()

_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.2
_AT_ONCE: Final = 1_000
_AT_END: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - the client's own code


class SymbolChanges:
    """Follows what users have changed for the producers of one source.

    Args:
        bootstrap_servers: of Kafka.
        settings: which topics, and how to get in.
        source: as producers name it.
    """

    def __init__(self, bootstrap_servers: str, settings: KafkaSettings, source: str) -> None:
        self._settings = settings
        self._source = source
        self._newest: dict[str, SymbolChange] = {}
        self._next = 0
        self._consumer = Consumer(
            {
                **client_options(bootstrap_servers, settings),
                "group.id": "tapeline-symbols",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
            }
        )
        self._consumer.assign([TopicPartition(settings.symbols_topic, 0, 0)])

    def read_all(self) -> None:
        """Read everything that is there now.

        Raises:
            KafkaException: Kafka does not answer.
            ServiceUnavailableError: it does not hand over all of it in time.
        """
        partition = (self._settings.symbols_topic, 0)
        end = next_offsets(self._consumer, [partition])[partition]
        deadline_s = time.monotonic() + _TIMEOUT_S
        while self._next < end:
            if time.monotonic() > deadline_s:
                text = f"Kafka does not hand over topic {partition[0]}: try again."
                raise ServiceUnavailableError(text)
            self._take(self._consumer.consume(_AT_ONCE, _POLL_S))

    def poll(self) -> None:
        """Read what has come since, without waiting."""
        self._take(self._consumer.consume(_AT_ONCE, 0))

    def applied_to(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Return symbols without those that were removed, and with those that were added."""
        added = [c.symbol for c in self._newest.values() if c.is_wanted]
        removed = {c.symbol for c in self._newest.values() if not c.is_wanted}
        return tuple(s for s in dict.fromkeys((*symbols, *added)) if s not in removed)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _take(self, messages: Iterable[Message]) -> None:
        for message in messages:
            error, offset = message.error(), message.offset()
            if offset is None or (error is not None and error.code() != _AT_END):
                continue
            if error is not None:  # what was last may have been compacted away
                self._next = offset
                continue
            self._next = offset + 1
            try:
                change = SymbolChange.from_bytes(bytes(message.value() or b""))
            except UnreadableReportError:
                log.warning("symbol_change_unreadable", offset=offset)
                continue
            if (change.topic, change.source) == (self._settings.topic, self._source):
                self._newest[change.symbol] = change


def send_changes(
    bootstrap_servers: str, settings: KafkaSettings, changes: Iterable[SymbolChange]
) -> None:
    """Tell producers of changes, and wait until Kafka has them.

    Raises:
        AccessError: Kafka does not let us in, or is not trusted.
        SchemaError: the topic is missing.
        ServiceUnavailableError: it does not take them in time.
    """
    errors: list[KafkaError] = []
    producer = Producer(
        {
            **client_options(bootstrap_servers, settings),
            "log_level": 0,
            "error_cb": cast("Any", errors.append),
            "acks": "all",
            "message.timeout.ms": int(_TIMEOUT_S * 1000),
        }
    )
    refused: list[KafkaError] = []

    def told(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            refused.append(error)

    for change in changes:
        producer.produce(
            settings.symbols_topic, change.to_bytes(), change.key.encode(), on_delivery=told
        )
    is_late = producer.flush(_TIMEOUT_S + 1) > 0
    if any(error.code() in NO_TOPIC for error in refused):
        message = f"There is no topic {settings.symbols_topic}: create it with `tapeline init`."
        raise SchemaError(message)
    if is_late or refused:
        raise no_access(bootstrap_servers, settings, [*errors, *refused])
