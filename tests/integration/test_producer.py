"""The producer on a real Kafka, fed by the simulator over a real WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from pydantic import SecretStr
from websockets.asyncio.server import ServerConnection, serve

from tapeline.consumer.feed_view import FeedView
from tapeline.errors import DeliveryError, SchemaError, ServiceUnavailableError
from tapeline.producer.feed_status import FeedStatus
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.topics import create_topics, delete_topic, topic_admin, topic_id_of
from tests.hand import TAPE, TRADES
from tests.pipeline import Pipeline


def messages(pipeline: Pipeline, topic: str) -> Iterator[Message]:
    """Yield what a topic holds now."""
    consumer = Consumer(
        {
            "bootstrap.servers": pipeline.endpoints.bootstrap_servers,
            "group.id": "test",
            "auto.offset.reset": "earliest",
        }
    )
    try:
        metadata = consumer.list_topics(topic, timeout=10)
        partitions = [TopicPartition(topic, p, 0) for p in metadata.topics[topic].partitions]
        left = sum(consumer.get_watermark_offsets(p, timeout=10)[1] for p in partitions)
        consumer.assign(partitions)
        while left:
            message = consumer.poll(10)
            assert message is not None
            assert message.error() is None
            left -= 1
            yield message
    finally:
        consumer.close()


def test_every_trade_of_a_tape_is_in_kafka_in_the_order_of_its_symbol(pipeline: Pipeline) -> None:
    pipeline.send_tape(TAPE)

    found = list(messages(pipeline, pipeline.name))

    assert len(found) == TRADES
    assert {m.key() for m in found} == {b"TEST", b"COIN:TESTUSD"}
    # One symbol lies in one partition, so its order is kept.
    assert len({m.partition() for m in found if m.key() == b"TEST"}) == 1


def test_the_last_status_says_that_the_tape_has_ended(pipeline: Pipeline) -> None:
    pipeline.send_tape(TAPE)

    *_, last = messages(pipeline, pipeline.settings.kafka.status_topic)
    status = FeedStatus.from_bytes(last.value() or b"")

    assert status.end_of_tape
    assert (status.pending, status.trades) == (0, TRADES)
    assert sum(offset + 1 for offset in status.last_offsets.values()) == TRADES
    view = FeedView(
        pipeline.endpoints.bootstrap_servers,
        pipeline.name,
        pipeline.topic_id,
        pipeline.settings.kafka.status_topic,
    )
    snapshot = view.snapshot(datetime.now(timezone.utc) + timedelta(seconds=1))
    view.close()
    assert snapshot.has_ended
    assert not snapshot.is_pending
    assert sum(snapshot.end_offsets.values()) == TRADES


def test_bad_frames_and_trades_are_dead_letters_with_their_bytes(pipeline: Pipeline) -> None:
    mixed = (
        '{"type":"trade","data":[{"s":"A","p":1,"t":1710513000000,"v":1},'
        '{"s":"A","p":-1,"t":1710513000000,"v":1}]}'
    )
    frames = ["not json", mixed, '{"type":"news"}', '{"type":"ping"}']

    async def feed(socket: ServerConnection) -> None:
        await socket.recv()
        for frame in frames:
            await socket.send(frame)
        await socket.close(1000, "end of tape")

    async def run() -> ProducerPipeline:
        async with serve(feed, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            finnhub = pipeline.settings.finnhub.model_copy(update={"url": f"ws://127.0.0.1:{port}"})
            kafka = pipeline.settings.kafka.model_copy(
                update={"dead_letter_topic": f"{pipeline.name}_dlq"}
            )
            producer = ProducerPipeline(
                pipeline.settings.model_copy(update={"kafka": kafka}),
                FinnhubClient(finnhub, SecretStr("token"), ["A"]),
                KafkaProducer(pipeline.endpoints.bootstrap_servers, pipeline.name),
                source="finnhub",
                topic_id=pipeline.topic_id,
                producer_id="test",
            )
            await producer.run()
            return producer

    admin = topic_admin(pipeline.endpoints.bootstrap_servers)
    create_topics(
        admin,
        pipeline.settings.kafka.model_copy(update={"dead_letter_topic": f"{pipeline.name}_dlq"}),
    )
    producer = asyncio.run(run())
    found = list(messages(pipeline, f"{pipeline.name}_dlq"))
    delete_topic(admin, f"{pipeline.name}_dlq")

    assert producer.counts.trades == 1
    letters = [(dict(m.headers() or [])["reason"], m.value()) for m in found]
    assert letters == [
        (b"malformed_json", b"not json"),
        (b"bad_price", mixed.encode()),
        (b"unknown_message", b'{"type":"news"}'),
    ]
    assert json.loads(dict(found[1].headers() or [])["rejects"]) == [[1, "bad_price"]]


def test_a_message_that_kafka_refuses_stops_the_producer(pipeline: Pipeline) -> None:
    producer = KafkaProducer(pipeline.endpoints.bootstrap_servers, pipeline.name)

    async def send() -> None:
        await producer.send("A", bytes(15 * 1024 * 1024))
        producer.flush()

    admin = topic_admin(pipeline.endpoints.bootstrap_servers)
    limit = ConfigEntry("max.message.bytes", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, pipeline.name, incremental_configs=[limit])
    admin.incremental_alter_configs([resource])[resource].result()

    with pytest.raises(DeliveryError, match=f"refuses a message for topic {pipeline.name}"):
        asyncio.run(send())


def test_more_trades_than_the_queue_holds_wait_and_none_is_lost(pipeline: Pipeline) -> None:
    producer = KafkaProducer(pipeline.endpoints.bootstrap_servers, pipeline.name)
    count = 120_000  # the queue holds 50,000

    async def send() -> None:
        for number in range(count):
            await producer.send("A", b"%d" % number)

    asyncio.run(send())
    producer.flush()

    assert producer.acknowledged == count
    assert sum(offset + 1 for offset in producer.last_offsets.values()) == count


def test_an_unknown_topic_and_a_missing_broker_say_what_to_do(pipeline: Pipeline) -> None:
    admin = topic_admin(pipeline.endpoints.bootstrap_servers)

    with pytest.raises(SchemaError, match="tapeline init --topic nowhere"):
        topic_id_of(admin, "nowhere")
    with pytest.raises(ServiceUnavailableError, match=r"Kafka does not answer at 127\.0\.0\.1:9"):
        topic_admin("127.0.0.1:9")
