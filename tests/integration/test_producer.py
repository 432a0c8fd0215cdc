"""The producer on a real Kafka, fed by the simulator over a real WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from pydantic import SecretStr
from websockets.asyncio.server import ServerConnection, serve

from tapeline.kafka.feed_view import FeedView
from tapeline.kafka.reader import TopicReader
from tapeline.kafka.topics import create_topics, delete_topic, topic_admin, topic_id_of
from tapeline.live.topic_log import TopicLog
from tapeline.model.errors import DeliveryError, SchemaError, ServiceUnavailableError
from tapeline.model.feed_status import FeedStatus
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.origin import Origin
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.spool_folder import Spools
from tapeline.program.metrics import DEAD_LETTERS
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
        metadata = consumer.list_topics(topic, timeout=60)
        partitions = [TopicPartition(topic, p, 0) for p in metadata.topics[topic].partitions]
        left = sum(consumer.get_watermark_offsets(p, timeout=60)[1] for p in partitions)
        consumer.assign(partitions)
        while left:
            message = consumer.poll(60)
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
    assert (status.pending, status.oldest_unsent_us, status.trades) == (0, None, TRADES)
    assert sum(offset + 1 for offset in status.last_offsets.values()) == TRADES
    view = FeedView(
        pipeline.endpoints.bootstrap_servers, pipeline.settings.kafka, pipeline.topic_id
    )
    snapshot = view.snapshot(datetime.now(timezone.utc) + timedelta(seconds=1))
    view.close()
    assert snapshot.has_ended
    assert not snapshot.is_pending
    assert sum(snapshot.end_offsets.values()) == TRADES


def of_trades(*trades: str) -> str:
    return '{"type":"trade","data":[' + ",".join(trades) + "]}"


GOOD = '{"s":"A","p":1,"t":1710513000000,"v":1}'
# A frame, and what must be said of it: [index of the trade or null for the frame, reason].
BAD_FRAMES: list[tuple[str, list[list[object]]]] = [
    ("not json", [[None, "malformed_json"]]),
    ("", [[None, "malformed_json"]]),
    (of_trades('{"s":"A","p":NaN,"t":1710513000000,"v":1}'), [[None, "malformed_json"]]),
    (of_trades('{"s":"A","p":Infinity,"t":1710513000000,"v":1}'), [[None, "malformed_json"]]),
    ("[" * 100_000, [[None, "malformed_json"]]),
    ("x" * 10_000_000, [[None, "malformed_json"]]),
    ('{"type":"news"}', [[None, "unknown_message"]]),
    ('{"type":"trade","data":{}}', [[None, "wrong_type"]]),
    (of_trades(GOOD, '{"s":"A","p":-1,"t":1710513000000,"v":1}'), [[1, "bad_price"]]),
    (of_trades('{"s":"A","p":"1","t":1710513000000,"v":1}'), [[0, "wrong_type"]]),
    (of_trades('{"s":"A","p":1e999,"t":1710513000000,"v":1}'), [[None, "malformed_json"]]),
    (of_trades('{"s":"A","p":1e300,"t":1710513000000,"v":1}'), [[0, "bad_price"]]),
    (of_trades('{"s":"A","p":1,"t":1710513000000,"v":-1}'), [[0, "bad_volume"]]),
    (of_trades('{"s":"A","p":1,"t":1710513000000,"v":1e300}'), [[0, "bad_volume"]]),
    (of_trades('{"s":"A","p":1,"t":4070908800000,"v":1}'), [[0, "bad_time"]]),
    (of_trades('{"s":"A","p":1,"t":1710513000,"v":1}'), [[0, "bad_time"]]),
    (of_trades('{"s":"","p":1,"t":1710513000000,"v":1}'), [[0, "empty_symbol"]]),
    (
        of_trades('{"s":"A","p":1,"t":1710513000000,"v":1,"c":"1"}', "7"),
        [[0, "wrong_type"], [1, "wrong_type"]],
    ),
]


def test_bad_frames_and_trades_are_dead_letters_and_the_stream_goes_on(pipeline: Pipeline) -> None:
    frames = [frame for frame, _ in BAD_FRAMES]
    too_large = "x" * 16_000_000

    async def feed(socket: ServerConnection) -> None:
        await socket.recv()
        for frame in [*frames, too_large]:
            await socket.send(frame)
        await socket.wait_closed()

    async def feed_again(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(of_trades(GOOD.replace("1710513000000", "1710513000001")))
        await socket.send('{"type":"ping"}')
        await socket.close(1000, "end of tape")

    feeds = [feed, feed_again]

    async def next_feed(socket: ServerConnection) -> None:
        await feeds.pop(0)(socket)

    async def run() -> ProducerPipeline:
        async with serve(next_feed, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            finnhub = pipeline.settings.finnhub.model_copy(update={"url": f"ws://127.0.0.1:{port}"})
            producer = ProducerPipeline(
                pipeline.settings.model_copy(update={"kafka": kafka, "finnhub": finnhub}),
                Origin("finnhub", "test", pipeline.topic_id),
                FinnhubClient(finnhub, SecretStr("token"), ["A"]),
                KafkaProducer(pipeline.endpoints.bootstrap_servers, pipeline.name),
                Spools(pipeline.spool("test")),
            )
            await producer.run()
            return producer

    kafka = pipeline.settings.kafka.model_copy(update={"dead_letter_topic": f"{pipeline.name}_dlq"})
    admin = topic_admin(pipeline.endpoints.bootstrap_servers)
    create_topics(admin, kafka)
    producer = asyncio.run(run())
    found = list(messages(pipeline, kafka.dead_letter_topic))
    delete_topic(admin, kafka.dead_letter_topic)

    letters = [(m.value(), json.loads(dict(m.headers() or [])["rejects"])) for m in found]
    assert letters == [
        *((frame.encode(), rejects) for frame, rejects in BAD_FRAMES),
        (b"", [[None, "frame_too_large"]]),
    ]
    assert producer.metrics.total(DEAD_LETTERS) == sum(len(r) for _, r in letters)
    # The good trade beside a bad one, and the one after the connection was lost.
    assert [m.key() for m in messages(pipeline, pipeline.name)] == [b"A", b"A"]


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


def test_readers_of_a_topic_that_is_not_there_say_how_to_make_it(pipeline: Pipeline) -> None:
    servers, kafka = pipeline.endpoints.bootstrap_servers, pipeline.settings.kafka
    nowhere = kafka.model_copy(update={"topic": "nowhere"})
    match = "There is no topic nowhere: create it with `tapeline init --topic nowhere`"
    with pytest.raises(SchemaError, match=match):
        FeedView(servers, nowhere, "id")
    with pytest.raises(SchemaError, match=match):
        TopicLog(servers, "nowhere")
    reader = TopicReader(servers, "nowhere", "id")
    with closing(reader), pytest.raises(SchemaError, match=match):
        reader.offsets()
    with pytest.raises(SchemaError, match="There is no topic no where"):
        topic_id_of(topic_admin(servers), "no where")
