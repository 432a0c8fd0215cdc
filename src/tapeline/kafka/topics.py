"""Create and look up Kafka topics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, cast

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it names only the first
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from confluent_kafka.cimpl import NewTopic

from tapeline.kafka.client import IN_THE_CLEAR, client_options
from tapeline.kafka.no_access import no_access
from tapeline.model.errors import AccessError, SchemaError, ServiceUnavailableError
from tapeline.program.service_settings import KafkaSettings

log = structlog.get_logger()

_CONNECT_TIMEOUT_S: Final = 10.0
_TIMEOUT_S: Final = 20.0
_ASK_S: Final = 2.0
_POLL_S: Final = 0.1
_HOUR_MS: Final = 3_600_000
NO_TOPIC: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - what the client says by itself
    }
)
"""What Kafka says of a topic that is not there, and of a name that can be none."""
_MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024

_TIMES: Final = "message.timestamp.type"
_BY_BROKER: Final = "LogAppendTime"
"""Receipt by the broker's clock, which no producer's wrong clock can move."""

# Compacted each hour, so that reading all of it stays quick.
_COMPACTED: Final = {
    "cleanup.policy": "compact",
    "segment.ms": str(_HOUR_MS),
    "min.cleanable.dirty.ratio": "0.1",
}


def topic_admin(bootstrap_servers: str, access: KafkaSettings = IN_THE_CLEAR) -> AdminClient:
    """Return an admin client of a broker that answers.

    Args:
        bootstrap_servers: of Kafka.
        access: how to get in.

    Raises:
        AccessError: it does not let us in, or is not trusted.
        ServiceUnavailableError: it does not answer.
    """
    errors: list[KafkaError] = []
    options = client_options(bootstrap_servers, access)
    admin = AdminClient({**options, "log_level": 0, "error_cb": cast("Any", errors.append)})
    deadline_s = time.monotonic() + _CONNECT_TIMEOUT_S
    while True:
        try:
            admin.list_topics(timeout=_ASK_S)
        except KafkaException as error:
            failure = no_access(bootstrap_servers, access, errors)
            if isinstance(failure, AccessError) or time.monotonic() >= deadline_s:
                raise failure from error
            admin.poll(0)
        else:
            return admin


def create_topics(admin: AdminClient, settings: KafkaSettings) -> None:
    """Create the topics that are missing, and wait until the broker tells of all.

    The topic of statuses is ours alone: one that lets producers date their statuses is repaired,
    since whether a producer lives is told by them.

    Raises:
        ServiceUnavailableError: it does not after a while.
    """
    copies = settings.replication_factor
    statuses = settings.status_topic
    options = {
        "retention.ms": str(settings.retention_hours * _HOUR_MS),
        _TIMES: _BY_BROKER,
        "max.message.bytes": str(_MAX_MESSAGE_BYTES),
    }
    topics = [
        NewTopic(settings.topic, settings.partitions, copies, config=options),
        NewTopic(settings.dead_letter_topic, 1, copies, config=options),
        NewTopic(statuses, 1, copies, config={**_COMPACTED, _TIMES: _BY_BROKER}),
        NewTopic(settings.gaps_topic, 1, copies, config=_COMPACTED),
        NewTopic(settings.symbols_topic, 1, copies, config=_COMPACTED),
    ]
    created = admin.create_topics(topics, operation_timeout=_TIMEOUT_S)
    for future in created.values():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    names = {topic.topic for topic in topics}
    _await(lambda: names <= _names(admin), f"creating topics {', '.join(sorted(names))}")
    if created[statuses].exception() is not None:
        _let_the_broker_date(admin, statuses)


def _let_the_broker_date(admin: AdminClient, topic: str) -> None:
    asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
    found = admin.describe_configs([asked], request_timeout=_TIMEOUT_S)[asked].result()
    if found[_TIMES].value == _BY_BROKER:
        return
    entry = ConfigEntry(_TIMES, _BY_BROKER, incremental_operation=AlterConfigOpType.SET)
    wanted = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    altered = admin.incremental_alter_configs([wanted], request_timeout=_TIMEOUT_S)
    altered[wanted].result()
    log.warning("topic_mended", topic=topic, setting=_TIMES, value=_BY_BROKER)


def delete_topic(admin: AdminClient, topic: str) -> None:
    """Delete a topic and wait until the broker no longer knows it.

    Raises:
        ServiceUnavailableError: it still does after a while.
    """
    try:
        admin.delete_topics([topic], operation_timeout=_TIMEOUT_S)[topic].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise
    _await(lambda: topic not in _names(admin), f"deleting topic {topic}")


def living_topics(admin: AdminClient) -> dict[str, tuple[str, list[int]]]:
    """Return the name and the partitions of every topic that Kafka has, by its id."""
    described = admin.describe_topics(
        TopicCollection(list(_names(admin))), request_timeout=_TIMEOUT_S
    )
    found = {}
    for name, answer in described.items():
        try:
            topic = answer.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            continue  # deleted meanwhile
        found[_as_text(topic.topic_id)] = name, sorted(p.id for p in topic.partitions)
    return found


def topic_id_of(admin: AdminClient, topic: str) -> str:
    """Return the id that Kafka gave a topic when it was created.

    Raises:
        SchemaError: there is no such topic.
        ServiceUnavailableError: Kafka does not say.
    """
    described = admin.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT_S)
    try:
        return _as_text(described[topic].result().topic_id)
    except KafkaException as error:
        if error.args[0].code() in NO_TOPIC:
            raise _no_topic(topic) from error
        message = f"Kafka does not say whether there is a topic {topic}: try again ({error})."
        raise ServiceUnavailableError(message) from error


def partitions_of(metadata: Any, topic: str) -> list[int]:
    """Return a topic's partitions.

    Raises:
        SchemaError: there is no such topic.
    """
    # Kafka may also name one that was asked for and is not there.
    found = metadata.topics.get(topic)
    if found is None or not found.partitions:
        raise _no_topic(topic)
    return sorted(found.partitions)


def _no_topic(topic: str) -> SchemaError:
    return SchemaError(
        f"There is no topic {topic}: create it with `tapeline init --topic {topic}`."
    )


def _as_text(topic_id: object) -> str:
    """Return an id as Kafka's own tools print it; this form may stand in a file's name."""
    return str(topic_id).translate(str.maketrans("+/", "-_"))


def _names(admin: AdminClient) -> set[str]:
    return set(admin.list_topics(timeout=_TIMEOUT_S).topics)


def _await(is_done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not is_done():
        if time.monotonic() > deadline:
            message = f"Kafka does not finish {what}: try again in a minute."
            raise ServiceUnavailableError(message)
        time.sleep(_POLL_S)
