"""A broker dies while somebody asks for offsets again and again: soon another one leads.

By itself Kafka's client remembers for up to fifteen minutes that a partition had no leader.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException

from tapeline.kafka.offsets import next_offsets
from tapeline.kafka.topics import create_topics, topic_admin
from tapeline.local.home import Home
from tapeline.program.service_settings import KafkaSettings
from tests.cluster.brokers import all_in_sync, make_brokers
from tests.cluster.member import Member
from tests.commands import wait_for

TOPIC = "trades"
PARTITIONS = [(TOPIC, n) for n in range(4)]
LED_AGAIN_S = 60.0


@pytest.fixture
def brokers(home: Home, tmp_path: Path) -> Iterator[tuple[list[Member], str]]:
    members, servers = make_brokers(home, tmp_path)
    with ExitStack() as stack:
        for member in members:
            stack.callback(member.end)
            member.start()
        for member in members:
            member.await_answer()
        yield members, servers


@pytest.mark.long
def test_offsets_are_known_again_once_another_broker_leads(
    brokers: tuple[list[Member], str], capsys: pytest.CaptureFixture[str]
) -> None:
    members, servers = brokers
    settings = KafkaSettings(topic=TOPIC, partitions=len(PARTITIONS), replication_factor=3)
    create_topics(topic_admin(servers), settings)
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "test", "log_level": 0})
    expected = dict.fromkeys(PARTITIONS, 0)
    told = []
    for member in members:
        wait_for(lambda: all_in_sync(servers, TOPIC))
        assert next_offsets(consumer, PARTITIONS) == expected
        member.kill()
        killed_s, failures = time.monotonic(), 0
        led_s = 0.0
        # As a stream does that looks every few seconds, before and while others are chosen.
        while time.monotonic() - killed_s < 2 * LED_AGAIN_S and led_s < 20:
            try:
                assert next_offsets(consumer, PARTITIONS) == expected
                led_s = led_s or time.monotonic() - killed_s
                time.sleep(0.2)
            except KafkaException:
                led_s = 0.0
                failures += 1
            if led_s and time.monotonic() - killed_s - led_s > 15:
                break
        told.append(f"{member.name}: {failures} failures, all known after {led_s:.1f} s")
        assert 0 < led_s < LED_AGAIN_S, told
        member.start()
        member.await_answer()
    consumer.close()
    with capsys.disabled():
        print("", *told, sep="\n")  # noqa: T201 - for the reader
