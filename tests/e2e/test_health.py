"""The health checks of docker-compose.yml, asked of the parts themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tapeline.kafka.topics import delete_topic, topic_admin
from tapeline.local.discovery import Endpoints
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tests.commands import finish, is_healthy, start, wait_for


@pytest.fixture
def topic(stack: Endpoints) -> Iterator[str]:
    yield "health"
    for name in ("health", "health_fs"):
        delete_topic(topic_admin(stack.bootstrap_servers), name)


def test_a_simulator_and_its_producer_are_healthy_while_they_run(topic: str) -> None:
    port = free_port(0)
    url = f"http://{LOOPBACK}:{port}"
    environment = {
        "TAPELINE_KAFKA__STATUS_TOPIC": f"{topic}_fs",
        "TAPELINE_FINNHUB__URL": f"ws://{LOOPBACK}:{port}",
        "FINNHUB_API_KEY": "simulated",
    }
    produce = ("produce", "--source", "simulator", "--topic", topic)
    simulator = start("simulate", "--host", LOOPBACK, "--port", str(port))
    producer = start(*produce, environment=environment)
    try:
        wait_for(lambda: is_healthy("simulator", url))
        wait_for(lambda: is_healthy("producer", environment=environment), while_runs=producer)

        # A producer that has lost its feed goes on trying, and is not healthy.
        simulator.terminate()
        finish(simulator)
        assert not is_healthy("simulator", url)
        wait_for(lambda: not is_healthy("producer", environment=environment))
    finally:
        simulator.kill()
        producer.terminate()
        finish(producer)
