"""The outbox beside a disk that hangs while it runs; Kafka is away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from tapeline.model.errors import SpoolError
from tapeline.model.gap import Gap, GapKind
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.gap_reporter import gap_reporter
from tapeline.producer.holes import Hole
from tapeline.producer.kafka_producer import KafkaProducer, OnDelivery
from tapeline.producer.origin import Origin
from tapeline.producer.outbox import Outbox
from tapeline.producer.pipeline import (
    _CLOSE_BEFORE_STOP_S,
    _REPORT_BEFORE_STOP_S,
    _SEND_BEFORE_STOP_S,
    _WRITE_BEFORE_STOP_S,
    ProducerPipeline,
)
from tapeline.producer.spool import Spool
from tapeline.producer.spool_file import SpooledMessage
from tapeline.producer.spool_folder import Spools
from tapeline.program.metrics import PRODUCER_METRICS, Metrics
from tapeline.program.process import STOP_LIMIT_S
from tapeline.program.settings import SpoolSettings, load_settings

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
        outbox.on_message(T0)
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


def spool_of(folder: Path, groups: int) -> Spool:
    """Make a spool of groups of the same size, each of one message, and open it again."""
    spool = Spool(folder, 2**20)
    for number in range(1, groups + 1):
        spool.append([SpooledMessage("trades", b"AAPL", b"%d" % number)], T0 + number, T0)
    return Spool(folder, 2**20)


def damage(folder: Path, group: int, groups: int) -> None:
    """Turn a bit of one of the groups of a spool of one file."""
    (path,) = folder.glob("*.spool")
    data = bytearray(path.read_bytes())
    data[(group - 1) * len(data) // groups + 40] ^= 1
    path.write_bytes(data)


def test_what_was_added_is_delivered_once_kafka_has_it_and_not_when_it_is_on_disk(tmp_path):
    async def run() -> None:
        spool = Spool(tmp_path, 2**20)
        outbox = Outbox(KafkaProducer(NO_KAFKA, "trades"), spool, SpoolSettings())
        await asyncio.wait_for(outbox.delivered(), 1)
        outbox.add("trades", b"AAPL", b"1")
        waiting = asyncio.create_task(outbox.delivered())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        writing = asyncio.create_task(outbox.write())
        await asyncio.sleep(0.2)
        assert (outbox.added, outbox.written) == (1, 1)
        assert not waiting.done()
        outbox.add("trades", b"AAPL", b"2")
        await asyncio.sleep(0.2)
        spool.acknowledged = 1  # and not the group that was added later
        await asyncio.wait_for(waiting, 1)
        writing.cancel()
        await outbox.close(1)

    asyncio.run(run())


class Counting(KafkaProducer):
    """Kafka's client, which takes what it cannot send; counts that."""

    taken = 0

    def try_send(self, message: SpooledMessage, on_delivery: OnDelivery) -> bool:
        is_taken = super().try_send(message, on_delivery)
        self.taken += is_taken
        return is_taken


async def holes_told(outbox: Outbox, messages: int, holes: int) -> list[Hole]:
    """Return what an outbox says is lost while it hands so many messages to Kafka's client."""
    found: list[Hole] = []
    outbox.groups.on_hole = found.append
    sending = asyncio.create_task(outbox.send())
    for _ in range(1000):
        if (outbox.producer.taken, len(found)) == (messages, holes):
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)  # for what comes too much
    assert outbox.producer.taken == messages
    sending.cancel()
    return found


@pytest.mark.parametrize(
    ("damaged", "hole"),
    [
        (1, Hole(1, 1, 0, T0 + 2)),
        (3, Hole(3, 3, T0 + 2, T0 + 4)),
        (5, Hole(5, 5, T0 + 4, T0 + 5)),
    ],
)
def test_damage_that_shows_only_when_groups_are_read_to_be_sent_is_told_once(
    tmp_path, damaged, hole
):
    outbox = Outbox(Counting(NO_KAFKA, "trades"), spool_of(tmp_path, 5), SpoolSettings())
    damage(tmp_path, damaged, 5)

    with capture_logs() as logs:
        assert asyncio.run(holes_told(outbox, 4, 1)) == [hole]

    assert [(line["event"], line["first"], line["last"]) for line in logs] == [
        ("spool_damaged", damaged, damaged)
    ]
    # What Kafka will never acknowledge must not count as waiting forever.
    assert outbox.pending == 4


def test_damage_that_was_found_at_the_start_is_not_told_again_unless_it_has_grown(tmp_path):
    def told(messages: int, holes: int) -> list[Hole]:
        outbox = Outbox(Counting(NO_KAFKA, "trades"), spool, SpoolSettings())
        return asyncio.run(holes_told(outbox, messages, holes))

    spool_of(tmp_path, 5)
    damage(tmp_path, 3, 5)
    spool = Spool(tmp_path, 2**20)
    assert spool.holes == [Hole(3, 3, T0 + 2, T0 + 4)]

    assert told(4, 0) == []
    damage(tmp_path, 2, 5)
    assert told(3, 1) == [Hole(2, 3, T0 + 1, T0 + 4)]


def test_damage_of_what_was_written_in_this_life_is_told_when_it_is_read_from_disk(tmp_path):
    most_in_memory = 20_000

    async def run() -> None:
        spool = Spool(tmp_path, 64 * 2**20)
        outbox = Outbox(Counting(NO_KAFKA, "trades"), spool, SpoolSettings(group_ms=1))
        writing = asyncio.create_task(outbox.write())
        for group, messages in enumerate((most_in_memory, 1, 1, 1), start=1):
            for _ in range(messages):
                outbox.add("trades", b"AAPL", b"1")
            outbox.on_message(T0 + group)
            while spool.last_number < group:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        (path,) = tmp_path.glob("*.spool")
        data = bytearray(path.read_bytes())
        of_one = (len(data) - data.find(b"TLs2", 4)) // 3
        data[-2 * of_one + 40] ^= 1  # in the second of the three that are not in memory
        path.write_bytes(data)

        assert await holes_told(outbox, most_in_memory + 2, 1) == [Hole(3, 3, T0 + 2, T0 + 4)]
        assert outbox.pending == most_in_memory + 2
        writing.cancel()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_what_waits_on_disk_behind_a_hole_counts_as_waiting(tmp_path):
    """Of the groups of this life the second is on disk alone, between two in memory."""

    async def run() -> None:
        spool = spool_of(tmp_path, 5)
        damage(tmp_path, 3, 5)
        outbox = Outbox(Counting(NO_KAFKA, "trades"), spool, SpoolSettings(group_ms=1))
        writing = asyncio.create_task(outbox.write())
        for group, messages in enumerate((19_999, 5, 1), start=6):
            for _ in range(messages):
                outbox.add("trades", b"AAPL", b"1")
            while spool.last_number < group:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)

        sending = asyncio.create_task(outbox.send())
        outbox.groups.on_hole = lambda _hole: None
        seen = set()
        while outbox.producer.taken < 4 + 20_005:
            seen.add(outbox.pending)
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        seen.add(outbox.pending)
        assert seen == {5 + 20_005, 4 + 20_005}
        sending.cancel()
        writing.cancel()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_damage_in_what_a_tape_has_left_to_send_stops_it(tmp_path):
    outbox = Outbox(KafkaProducer(NO_KAFKA, "trades"), spool_of(tmp_path, 5), SpoolSettings())
    damage(tmp_path, 3, 5)

    with pytest.raises(SpoolError, match="play the tape again"):
        asyncio.run(asyncio.wait_for(outbox.send(), 5))


def test_a_hole_that_the_outbox_finds_is_a_gap_and_counted(tmp_path):
    settings = load_settings()
    spool = spool_of(tmp_path, 5)
    damage(tmp_path, 3, 5)
    origin = Origin("finnhub", "me", "id")
    metrics = Metrics(PRODUCER_METRICS)
    finnhub = settings.finnhub.model_copy(update={"url": "ws://127.0.0.1:9"})
    pipeline = ProducerPipeline(
        settings,
        origin,
        FinnhubClient(finnhub, SecretStr("t"), ("A",)),
        KafkaProducer(NO_KAFKA, "trades_raw"),
        Spools(spool),
        gap_reporter(settings, origin, ("A",), {}),
        metrics,
    )

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(pipeline.run(), 1))

    again = Spool(tmp_path, 2**20)
    left = [m for group in again.read(6, again.last_number, 2**20) for m in group.messages]
    found = [Gap.from_bytes(m.value) for m in left if m.topic == settings.kafka.gaps_topic]
    dropped = [(g.started_us, g.ended_us) for g in found if g.kind is GapKind.DROPPED]
    assert dropped == [(T0 + 2, T0 + 4)]
    assert metrics.registry.get_sample_value("tapeline_producer_spool_holes_total") == 1


PRODUCER = """
import asyncio, http, os, sys
from pathlib import Path
from pydantic import SecretStr
from websockets.asyncio.server import serve
from tapeline.program.command import run_command
from tapeline.program.logs import configure_logging
from tapeline.program.process import STOP_LIMIT_S, run_until_signalled
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer import pipeline
from tapeline.producer.origin import Origin
from tapeline.producer.spool import Spool
from tapeline.producer.spool_folder import Spools
from tapeline.program.settings import FinnhubSettings, load_settings
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
        await pipeline.ProducerPipeline(
            load_settings(), Origin("finnhub", "me", "id"), client, producer, Spools(spool)
        ).run()

pipeline._SEND_BEFORE_STOP_S = 1.0  # instead of 4: the rest is for a slow machine
sys.argv.pop()
configure_logging(load_settings())
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


def test_all_waits_of_a_stop_together_are_over_before_its_limit():
    waits_s = (
        _WRITE_BEFORE_STOP_S,
        _SEND_BEFORE_STOP_S,
        _REPORT_BEFORE_STOP_S,
        _CLOSE_BEFORE_STOP_S,
    )
    assert sum(waits_s) < STOP_LIMIT_S - 1  # the rest is for the line to the feed, and for Python
