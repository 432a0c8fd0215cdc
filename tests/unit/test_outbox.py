"""The outbox beside a disk that hangs or is damaged while it runs; Kafka is away."""

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
from tapeline.producer.feed_status import FeedStatus
from tapeline.producer.gap_reporter import gap_reporter
from tapeline.producer.gaps import Gap, GapKind
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.outbox import Outbox
from tapeline.producer.spool import Hole, Spool
from tapeline.producer.spool_file import SpooledMessage
from tapeline.settings import SpoolSettings, load_settings

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


def spool_of_groups(folder: Path, count: int) -> Spool:
    """Return a spool opened on groups of equal size, a message each, that were never sent."""
    earlier = Spool(folder, 2**20)
    for number in range(1, count + 1):
        earlier.append([SpooledMessage("trades", b"AAPL", b"%d" % number)], T0 + number)
    return Spool(folder, 2**20)


def damage(folder: Path, first: int, last: int, count: int) -> None:
    """Flip a bit in each of some groups, of `count` equal ones that the one file holds."""
    (file,) = folder.glob("*.spool")
    data = bytearray(file.read_bytes())
    size = len(data) // count
    for number in range(first, last + 1):
        data[number * size - 1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("first", "last", "hole"),
    [
        (1, 2, Hole(0, T0 + 3)),
        (3, 3, Hole(T0 + 2, T0 + 4)),
        (4, 5, Hole(T0 + 3, T0 + 5)),  # nothing follows, so it ends with what was written last
        (1, 5, Hole(0, T0 + 5)),
    ],
)
def test_what_is_damaged_before_it_is_read_again_is_said_and_is_not_awaited(
    tmp_path, first, last, hole
):
    async def run() -> tuple[list[Hole], int]:
        outbox = Outbox(
            KafkaProducer(NO_KAFKA, "trades"), spool_of_groups(tmp_path, 5), SpoolSettings()
        )
        assert outbox.pending == 5
        holes: list[Hole] = []
        outbox.on_hole = holes.append
        damage(tmp_path, first, last, 5)
        sending = asyncio.create_task(outbox.send())
        await asyncio.wait([sending], timeout=0.3)
        outbox.add("trades", b"AAPL", b"6")
        writing = asyncio.create_task(outbox.write())
        await asyncio.wait([sending, writing], timeout=0.3)
        assert not sending.done()
        sending.cancel()
        writing.cancel()
        await outbox.close(5)
        return holes, outbox.pending

    with capture_logs() as logs:
        holes, pending = asyncio.run(run())

    assert holes == [hole]
    assert [(x["event"], x["log_level"]) for x in logs] == [("spool_damaged", "error")]
    assert pending == 6 - (last - first + 1)


def test_a_tape_of_which_the_spool_lost_something_does_not_go_on_as_if_it_were_whole(tmp_path):
    async def run() -> None:
        outbox = Outbox(
            KafkaProducer(NO_KAFKA, "trades"), spool_of_groups(tmp_path, 5), SpoolSettings()
        )
        damage(tmp_path, 3, 3, 5)
        await outbox.send()

    with pytest.raises(SpoolError, match="play the tape again"):
        asyncio.run(asyncio.wait_for(run(), 5))


@pytest.mark.parametrize(
    ("hole", "started_us"), [(Hole(T0 + 5, T0 + 9), T0 + 5), (Hole(0, T0 + 9), T0 + 2)]
)
def test_a_hole_in_the_spool_is_a_gap_that_begins_where_kafka_had_everything(hole, started_us):
    earlier = FeedStatus("p", "t", "id", True, 0, {}, None, False, 0, 0, 0, last_message_us=T0 + 2)
    gaps = gap_reporter(
        load_settings(),
        symbols=("A",),
        topic_id="id",
        producer_id="p",
        earlier=earlier,
        durable_us=T0 + 100,
    )
    reported: list[Gap] = []
    gaps.send = lambda _key, value: reported.append(Gap.from_bytes(value))

    gaps.damaged(hole)

    (gap,) = reported
    assert (gap.kind, gap.started_us, gap.ended_us) == (GapKind.DROPPED, started_us, T0 + 9)


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
