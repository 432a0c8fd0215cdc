"""What frames become, and what they tell of gaps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tapeline.model.errors import DeliveryError
from tapeline.model.gap import Gap, GapKind
from tapeline.producer.finnhub_client import Frame
from tapeline.producer.gap_reporter import GapReporter, gap_reporter
from tapeline.producer.intake import Intake, read_frame
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.outbox import Outbox
from tapeline.producer.redelivery import FrameMemory
from tapeline.producer.spool import Spool
from tapeline.producer.spool_file import SpooledMessage
from tapeline.producer.symbol_slots import SymbolSlots
from tapeline.program.metrics import PRODUCER_METRICS, Metrics
from tapeline.program.settings import load_settings

T0 = 1_763_649_000_000_000
SECOND_US = 1_000_000
MB = 2**20


def frame(connection: int, second: int) -> Frame:
    """Make a ping that was read so many seconds after the first moment."""
    return Frame('{"type":"ping"}', connection, T0 + second * SECOND_US, float(second))


def parts(
    folder: Path,
    slots: SymbolSlots | None = None,
    kept_up_us: Callable[[], int | None] = lambda: None,
) -> tuple[Intake, GapReporter, Outbox]:
    """Return an intake and what it feeds; Kafka is away."""
    settings = load_settings()
    gaps = gap_reporter(settings, symbols=("A",), topic_id="id", producer_id="p", earlier=None)
    gaps.now_us = lambda: T0 + 9 * SECOND_US
    outbox = Outbox(
        KafkaProducer("127.0.0.1:9", "trades_raw"), Spool(folder, 64 * MB), settings.spool
    )
    intake = Intake(
        settings,
        outbox,
        source="finnhub",
        producer_id="p",
        gaps=gaps,
        slots=slots or SymbolSlots(),
        memory=FrameMemory(0.0),
        speed=1.0,
        metrics=Metrics(PRODUCER_METRICS),
        kept_up_us=kept_up_us,
    )
    return intake, gaps, outbox


def take(intake: Intake, *frames: Frame) -> None:
    for one in frames:
        intake.take(one, read_frame(one, one.received_at_us // 1000))


def test_a_frame_that_waited_on_a_connection_since_lost_ends_no_gap(tmp_path: Path) -> None:
    intake, gaps, _ = parts(tmp_path)
    reported: list[Gap] = []
    gaps.send = reported.append

    take(intake, frame(0, 0))
    intake.lost_connection = 0
    gaps.on_disconnect(GapKind.DISCONNECTED)
    take(intake, frame(0, 5), frame(1, 30))

    assert [(gap.started_us, gap.ended_us) for gap in reported] == [
        (T0, None),
        (T0, T0 + 30 * SECOND_US),
    ]


def test_what_is_read_late_counts_as_heard_only_until_the_reader_last_kept_up(
    tmp_path: Path,
) -> None:
    """Frames that came after this one may be in the socket still, and a kill would lose them."""
    last_kept_up = T0 + 10 * SECOND_US
    intake, gaps, outbox = parts(tmp_path, kept_up_us=lambda: last_kept_up)
    reported: list[Gap] = []
    gaps.send = reported.append
    # An unreadable frame too: what it held may have been sent at any time since.
    broken = Frame("{", 0, T0 + 40 * SECOND_US, 40.0)

    take(intake, frame(0, 30), broken)
    written(outbox, tmp_path)

    assert Spool(tmp_path, 64 * MB).last_receipt_us == last_kept_up
    (dropped,) = reported
    assert (dropped.kind, dropped.started_us) == (GapKind.DROPPED, last_kept_up)
    assert dropped.ended_us == T0 + 40 * SECOND_US


def test_refusals_of_a_lost_connection_are_not_counted_for_the_next(tmp_path: Path) -> None:
    slots = SymbolSlots()
    intake, _, _ = parts(tmp_path, slots)

    def refusal(connection: int) -> Frame:
        text = '{"type":"error","msg":"Subscribing to too many symbols"}'
        return Frame(text, connection, T0, 0.0)

    intake.lost_connection = 0
    slots.asked(["A", "B", "C"], 0.0)
    take(intake, refusal(0), refusal(0), refusal(1))
    slots.check(5.0, lambda s: T0 + round(s * SECOND_US))

    assert slots.waiting == ("C",)


def test_the_oldest_unsent_time_is_the_event_time_of_a_late_trade_and_not_its_receipt(
    tmp_path: Path,
) -> None:
    intake, _, outbox = parts(tmp_path)
    t0_ms = T0 // 1000

    take(intake, frame(0, 0))
    assert outbox.oldest_unsent_us is None
    for second, event_ms in ((1, t0_ms + 900), (2, t0_ms - 600_000), (3, t0_ms + 2_900)):
        late = f'{{"s":"A","p":1,"t":{event_ms},"v":1}}'
        fresh = f'{{"s":"A","p":1,"t":{t0_ms + 1000 * second},"v":1}}'
        data = f'{{"type":"trade","data":[{fresh},{late}]}}'
        take(intake, Frame(data, 0, T0 + second * SECOND_US, float(second)))

    assert outbox.oldest_unsent_us == T0 - 600 * SECOND_US


def test_a_huge_frame_of_nothing_but_mistakes_is_a_dead_letter_that_kafka_takes(
    tmp_path: Path,
) -> None:
    intake, gaps, outbox = parts(tmp_path)
    reported: list[Gap] = []
    gaps.send = reported.append
    good = f'{{"s":"A","p":1,"t":{T0 // 1000},"v":1}}'
    data = f'{{"type":"trade","data":[{good}{",0" * 1_000_000}]}}'

    take(intake, frame(0, 0), Frame(data, 0, T0 + SECOND_US, 1.0))
    (letter,) = written(outbox, tmp_path)

    assert letter.topic == load_settings().kafka.dead_letter_topic
    assert len(letter.value) == len(data)
    # Refused as a whole: `redrive` brings what is valid, and until then it is missing.
    assert len(dict(letter.headers)["rejects"]) < 100
    assert dict(letter.headers)["rejects"] == '[[null,"wrong_type"]]'
    assert [(gap.kind, gap.started_us, gap.ended_us) for gap in reported] == [
        (GapKind.DROPPED, T0, T0 + SECOND_US)
    ]
    assert outbox.producer.try_send(letter, lambda _error, _message: None)
    larger = letter._replace(headers=(("rejects", "0" * 16 * MB),))
    with pytest.raises(DeliveryError, match=r"topic trades_dlq: .*Message size too large"):
        outbox.producer.try_send(larger, lambda _error, _message: None)


def written(outbox: Outbox, folder: Path) -> list[SpooledMessage]:
    """Let an outbox write what it has, and return that."""

    async def write() -> None:
        outbox.close_input()
        await outbox.write()

    asyncio.run(write())
    spool = Spool(folder, 64 * MB)
    return [m for group in spool.read(1, spool.last_number, 64 * MB) for m in group.messages]
