"""What producers of other names have left comes to a real Kafka, before anything newer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from pydantic import SecretStr

from tapeline.kafka.topics import create_topics, delete_topic, topic_admin
from tapeline.local.discovery import Endpoints
from tapeline.model.feed_status import FeedStatus
from tapeline.model.gap import Gap, GapKind
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.gap_reporter import gap_reporter
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.origin import Origin
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.spool import Spool
from tapeline.producer.spool_file import SpooledMessage
from tapeline.producer.spool_folder import opened_spools
from tapeline.program.settings import Settings, load_settings
from tests.statuses import a_status

T0 = 1_763_649_000_000_000
MB = 2**20


@pytest.fixture
def settings(stack: Endpoints, tmp_path: Path) -> Iterator[Settings]:
    """Topics of this test alone, and no feed."""
    name = f"t{uuid.uuid4().hex[:12]}"
    loaded = load_settings().with_target(topic=name)
    kafka = loaded.kafka.model_copy(
        update={"partitions": 1, "status_topic": f"{name}_fs", "gaps_topic": f"{name}_fg"}
    )
    finnhub = loaded.finnhub.model_copy(update={"url": "ws://127.0.0.1:9"})
    admin = topic_admin(stack.bootstrap_servers)
    create_topics(admin, kafka)
    yield loaded.model_copy(update={"kafka": kafka, "finnhub": finnhub, "home": tmp_path})
    for topic in (name, kafka.status_topic, kafka.gaps_topic):
        delete_topic(admin, topic)


def values_in(stack: Endpoints, topic: str) -> list[bytes]:
    """Return what the only partition of a topic holds now."""
    consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "test"})
    partition = TopicPartition(topic, 0, 0)
    _, end = consumer.get_watermark_offsets(partition, timeout=60)
    consumer.assign([partition])
    found = consumer.consume(end, 60) if end else []
    consumer.close()
    return [message.value() or b"" for message in found]


def leave(settings: Settings, producer_id: str, *values: bytes) -> Path:
    """Let a producer stop with messages that Kafka lacks, each a group of its own."""
    folder = settings.home / "spool" / settings.kafka.topic / producer_id
    spool = Spool(folder, MB)
    for number, value in enumerate(values, start=1):
        message = SpooledMessage(settings.kafka.topic, b"AAPL", value)
        spool.append([message], T0 + number, T0 - number)
    spool.close()
    return folder


def test_what_others_left_is_sent_first_then_gone_and_its_damage_is_their_gap(
    stack: Endpoints, settings: Settings
) -> None:
    damaged = leave(settings, "a-00000001", b"1", b"2", b"3")
    (path,) = damaged.glob("*.spool")
    data = bytearray(path.read_bytes())
    data[len(data) // 3 + 40] ^= 1
    path.write_bytes(data)
    leave(settings, "c-00000003", b"4", b"5")
    leave(settings, "b-00000002", b"6")
    other = a_status("a-00000001", symbols=("MSFT",), is_live=True)

    async def run() -> None:
        with opened_spools(settings, "b-00000002", is_tape=False) as spools:
            client = FinnhubClient(settings.finnhub, SecretStr("t"), ("AAPL",))
            origin = Origin("finnhub", "b-00000002", "id")
            await ProducerPipeline(
                settings,
                origin,
                client,
                KafkaProducer(stack.bootstrap_servers, settings.kafka.topic),
                spools,
                gap_reporter(settings, origin, client.symbols, {"a-00000001": other}),
            ).run()

    spools = settings.home / "spool" / settings.kafka.topic

    def left() -> list[str]:
        return [path.name for path in spools.iterdir() if path.is_dir()]

    def holes() -> list[Gap]:
        gaps = [Gap.from_bytes(value) for value in values_in(stack, settings.kafka.gaps_topic)]
        return [gap for gap in gaps if gap.kind is GapKind.DROPPED]

    async def run_until_all_is_sent() -> None:
        task = asyncio.create_task(run())
        async with asyncio.timeout(300):
            while left() != ["b-00000002"] or not await asyncio.to_thread(holes):
                await asyncio.wait([task], timeout=0.2)
                assert not task.done(), task
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run_until_all_is_sent())

    assert values_in(stack, settings.kafka.topic) == [b"1", b"3", b"4", b"5", b"6"]
    assert left() == ["b-00000002"]
    assert Spool(spools / "b-00000002", MB).unsent == 0
    assert [(gap.producer_id, gap.symbols) for gap in holes()] == [("a-00000001", ("MSFT",))]
    assert [(gap.started_us, gap.ended_us) for gap in holes()] == [(T0 + 1, T0 + 3)]
    first, *_, last = (
        FeedStatus.from_bytes(value) for value in values_in(stack, settings.kafka.status_topic)
    )
    # Five messages and the hole's gap, which begins later than the oldest event.
    assert (first.pending, first.oldest_unsent_us) == (6, T0 - 3)
    assert (last.pending, last.oldest_unsent_us) == (0, None)
