"""What frames become, and what they tell of gaps."""

from __future__ import annotations

from pathlib import Path

from tapeline.metrics import PRODUCER_METRICS, Metrics
from tapeline.producer.finnhub_client import Frame
from tapeline.producer.gap_reporter import gap_reporter
from tapeline.producer.gaps import Gap, GapKind
from tapeline.producer.intake import Intake, read_frame
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.outbox import Outbox
from tapeline.producer.redelivery import FrameMemory
from tapeline.producer.spool import Spool
from tapeline.producer.symbol_slots import SymbolSlots
from tapeline.settings import load_settings

T0 = 1_763_649_000_000_000
SECOND_US = 1_000_000


def frame(connection: int, second: int) -> Frame:
    """Make a ping that was read so many seconds after the first moment."""
    return Frame('{"type":"ping"}', connection, T0 + second * SECOND_US, float(second))


def test_a_frame_that_waited_on_a_connection_since_lost_ends_no_gap(tmp_path: Path) -> None:
    settings = load_settings()
    gaps = gap_reporter(settings, symbols=("A",), topic_id="id", producer_id="p", earlier=None)
    reported: list[Gap] = []
    gaps.send = lambda _key, value: reported.append(Gap.from_bytes(value))
    gaps.now_us = lambda: T0 + 9 * SECOND_US
    producer = KafkaProducer("127.0.0.1:9", "trades_raw")  # nothing is sent
    intake = Intake(
        settings,
        Outbox(producer, Spool(tmp_path / "spool", 2**20), settings.spool),
        source="finnhub",
        producer_id="p",
        gaps=gaps,
        slots=SymbolSlots(),
        memory=FrameMemory(0.0),
        speed=1.0,
        metrics=Metrics(PRODUCER_METRICS),
    )

    def take(*frames: Frame) -> None:
        for one in frames:
            intake.take(one, read_frame(one, one.received_at_us // 1000))

    take(frame(0, 0))
    intake.lost_connection = 0
    gaps.lost(GapKind.DISCONNECTED)
    take(frame(0, 5), frame(1, 30))

    assert [(gap.started_us, gap.ended_us) for gap in reported] == [
        (T0, None),
        (T0, T0 + 30 * SECOND_US),
    ]
