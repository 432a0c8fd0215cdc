"""The outbox beside a disk that hangs while it runs; Kafka is away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tapeline.errors import SpoolError
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.outbox import Outbox
from tapeline.producer.spool import Spool
from tapeline.settings import SpoolSettings

T0 = 1_763_649_000_000_000
NO_KAFKA = "127.0.0.1:9"


def hang_at_the_next_write(folder: Path) -> Path:
    """Make the next file of a spool a pipe that nobody reads: the system never opens it."""
    path = folder / f"{1:020d}.spool"
    os.mkfifo(path)
    return path


def test_a_disk_that_hangs_is_left_behind_and_said(tmp_path):
    async def run() -> None:
        outbox = Outbox(KafkaProducer(NO_KAFKA, "trades"), Spool(tmp_path, 2**20), SpoolSettings())
        hang_at_the_next_write(tmp_path)
        writing = asyncio.create_task(outbox.write())
        outbox.add("trades", b"AAPL", b"1")
        await asyncio.sleep(0.1)
        outbox.add("trades", b"AAPL", b"2")
        writing.cancel()
        await outbox.close(0.2)

    started_s = time.monotonic()
    with capture_logs() as logs, pytest.raises(SpoolError, match="disk does not answer"):
        asyncio.run(asyncio.wait_for(run(), 5))

    assert time.monotonic() - started_s < 3
    assert [(line["event"], line["unwritten"]) for line in logs] == [("spool_disk_hangs", 2)]


def test_the_oldest_time_that_is_not_sent_outlives_the_process(tmp_path):
    def opened() -> Outbox:
        return Outbox(KafkaProducer(NO_KAFKA, "trades"), Spool(tmp_path, 2**20), SpoolSettings())

    async def run() -> None:
        outbox = opened()
        writing = asyncio.create_task(outbox.write())
        outbox.heard(T0)
        await asyncio.sleep(0.1)
        assert outbox.oldest_unsent_us is None  # a ping has no time of an event
        two_hours_late = T0 - 7_200_000_000
        for event_us, oldest_us in (
            (T0 - 5, T0 - 5),
            (two_hours_late, two_hours_late),
            (T0, two_hours_late),
        ):
            outbox.dated(event_us)
            outbox.add("trades", b"AAPL", b"1")
            assert outbox.oldest_unsent_us == oldest_us
            await asyncio.sleep(0.1)
            assert outbox.oldest_unsent_us == oldest_us
        outbox.close_input()
        await writing
        await outbox.close(5)

    asyncio.run(asyncio.wait_for(run(), 10))

    assert opened().oldest_unsent_us == T0 - 7_200_000_000


PRODUCER = """
import asyncio, http, os, sys
from pathlib import Path
from pydantic import SecretStr
from websockets.asyncio.server import serve
from tapeline.command import run_command
from tapeline.logs import configure_logging
from tapeline.process import STOP_LIMIT_S, run_until_signalled
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.spool import Spool
from tapeline.settings import FinnhubSettings, load_settings
from tests.unit.test_outbox import NO_KAFKA, hang_at_the_next_write

folder, refuses = Path(sys.argv[1]), sys.argv.pop() == "refused"
TRADE = '{"type":"trade","data":[{"s":"A","p":1,"t":1710513000000,"v":1}]}'
connections = []

def refuse(connection, request):
    connections.append(request)
    if refuses and len(connections) > 1:
        print("stopping", flush=True)
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "")

async def feed(socket):
    await socket.recv()
    await socket.send(TRADE)
    await asyncio.sleep(0.5)
    if refuses:
        return
    print("stopping", flush=True)
    await socket.wait_closed()

async def run():
    spool = Spool(folder, 2**20)
    hang_at_the_next_write(folder)
    async with serve(feed, "127.0.0.1", 0, process_request=refuse) as server:
        port = server.sockets[0].getsockname()[1]
        client = FinnhubClient(
            FinnhubSettings(url=f"ws://127.0.0.1:{port}"), SecretStr("t"), ("A",)
        )
        producer = KafkaProducer(NO_KAFKA, "trades_raw")
        await ProducerPipeline(
            load_settings(), client, producer, spool,
            source="finnhub", topic_id="id", producer_id="me",
        ).run()

sys.argv.pop()
configure_logging(load_settings().log_level)
run_command(lambda: run_until_signalled(run(), limit_s=STOP_LIMIT_S))
"""


@pytest.mark.parametrize("why", ["refused", "signal"])
def test_a_producer_whose_disk_hangs_stops_within_ten_seconds_and_loudly(tmp_path, why):
    command = [sys.executable, "-c", PRODUCER, str(tmp_path), why]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stopping\n"
        started_s = time.monotonic()
        if why == "signal":
            process.terminate()
        try:
            _, error = process.communicate(timeout=15)
        finally:
            process.kill()

    assert time.monotonic() - started_s < 10
    assert process.returncode == 9, error
    assert "spool_disk_hangs" in error
    assert "Error: The spool's disk does not answer. Mend it and start again." in error
