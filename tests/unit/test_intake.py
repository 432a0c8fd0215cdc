"""What frames become, and what they tell of gaps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr

from tapeline.feeds.known import PUBLIC
from tapeline.model.errors import DeliveryError
from tapeline.model.feed_status import FeedStatus
from tapeline.model.gap import Gap, GapKind
from tapeline.producer.clock import FeedClock
from tapeline.producer.feed_client import FeedClient, Frame
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.gap_reporter import gap_reporter
from tapeline.producer.id_file import IdFile
from tapeline.producer.id_watch import Point
from tapeline.producer.intake import Intake, read_frame
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.left_spools import LeftSpools
from tapeline.producer.live_feed import LiveFeed
from tapeline.producer.origin import Origin
from tapeline.producer.outbox import Outbox
from tapeline.producer.spool import Spool
from tapeline.producer.spool_file import SpooledMessage
from tapeline.program.metrics import PRODUCER_METRICS, Metrics
from tapeline.program.settings import load_settings
from tests.statuses import a_status

T0 = 1_763_649_000_000_000
SECOND_US = 1_000_000
MB = 2**20
SUBSCRIBED = ("COINBASE:X", "COINBASE:Y")


def frame(connection: int, second: int) -> Frame:
    """Make a ping that was read so many seconds after the first moment."""
    return Frame('{"type":"ping"}', connection, T0 + second * SECOND_US, float(second))


class Parts:
    """A live feed and what it feeds; Kafka is away. Since 10 s after the first moment it ticks."""

    def __init__(
        self,
        folder: Path,
        now_s: float = 10.0,
        feed: str = "",
        numbers: IdFile | None = None,
        earlier: FeedStatus | None = None,
    ) -> None:
        settings, metrics = load_settings(), Metrics(PRODUCER_METRICS)
        self.now_s = now_s
        clock = FeedClock(lambda: T0 / SECOND_US + self.now_s, lambda: self.now_s)
        origin = Origin("finnhub", "p", "id")
        gaps = gap_reporter(
            settings, origin, ("A",), {"p": earlier} if earlier else {}, clock=clock
        )
        self.client: FeedClient = FinnhubClient(settings.finnhub, SecretStr("t"), ("A",))
        if feed:
            self.client = FeedClient(PUBLIC[feed], "ws://127.0.0.1:9", settings.finnhub, SUBSCRIBED)
        self.outbox = Outbox(
            KafkaProducer("127.0.0.1:9", "trades_raw"), Spool(folder, 64 * MB), settings.spool
        )
        intake = Intake(settings, origin, self.client, self.outbox, metrics)
        self.feed = LiveFeed(self.client, gaps, intake, self.outbox, metrics, numbers=numbers)
        self.reported: list[Gap] = []
        gaps.send = self.reported.append

    def take(self, *frames: Frame) -> None:
        for one in frames:
            self.feed.take(one, read_frame(one, one.received_at_us // 1000, self.client.feed))


def test_a_frame_that_waited_on_a_connection_since_lost_ends_no_gap(tmp_path: Path) -> None:
    parts = Parts(tmp_path)

    parts.take(frame(0, 0))
    parts.client.lost_connection = 0
    parts.client.on_loss(GapKind.DISCONNECTED)
    parts.take(frame(0, 5), frame(1, 30))

    assert [(gap.started_us, gap.ended_us) for gap in parts.reported] == [
        (T0, None),
        (T0, T0 + 30 * SECOND_US),
    ]


def test_what_is_read_late_counts_as_heard_only_until_the_reader_last_kept_up(
    tmp_path: Path,
) -> None:
    """Frames that came after this one may be in the socket still, and a kill would lose them."""
    last_kept_up = T0 + 10 * SECOND_US
    parts = Parts(tmp_path)
    parts.now_s = 41.0
    # An unreadable frame too: what it held may have been sent at any time since.
    broken = Frame("{", 0, T0 + 40 * SECOND_US, 40.0)

    parts.take(frame(0, 30), broken)
    written(parts.outbox, tmp_path)

    assert Spool(tmp_path, 64 * MB).last_receipt_us == last_kept_up
    (dropped,) = parts.reported
    assert (dropped.kind, dropped.started_us) == (GapKind.DROPPED, last_kept_up)
    assert dropped.ended_us == T0 + 40 * SECOND_US


def test_refusals_of_a_lost_connection_are_not_counted_for_the_next(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    slots = parts.client.slots

    def refusal(connection: int) -> Frame:
        text = '{"type":"error","msg":"Subscribing to too many symbols"}'
        return Frame(text, connection, T0, 0.0)

    parts.client.lost_connection = 0
    slots.asked(["A", "B", "C"], 0.0)
    slots.sent(0.0)
    parts.take(refusal(0), refusal(0), refusal(1))
    slots.check(5.0, lambda s: T0 + round(s * SECOND_US))

    assert slots.waiting == ("C",)


def test_the_oldest_unsent_time_is_the_event_time_of_a_late_trade_and_not_its_receipt(
    tmp_path: Path,
) -> None:
    parts = Parts(tmp_path)
    t0_ms = T0 // 1000

    parts.take(frame(0, 0))
    assert parts.outbox.oldest_unsent_us is None
    for second, event_ms in ((1, t0_ms + 900), (2, t0_ms - 600_000), (3, t0_ms + 2_900)):
        late = f'{{"s":"A","p":1,"t":{event_ms},"v":1}}'
        fresh = f'{{"s":"A","p":1,"t":{t0_ms + 1000 * second},"v":1}}'
        data = f'{{"type":"trade","data":[{fresh},{late}]}}'
        parts.take(Frame(data, 0, T0 + second * SECOND_US, float(second)))

    assert parts.outbox.oldest_unsent_us == T0 - 600 * SECOND_US


def test_numbers_are_kept_only_of_trades_that_are_on_disk(tmp_path: Path) -> None:
    """The disk does not answer: what was received meanwhile is lost by a crash, and is fetched."""
    file = IdFile(tmp_path / "p.numbers")
    parts = Parts(tmp_path, feed="coinbase", numbers=file)

    def kept_at(now_s: float) -> dict[str, int]:
        parts.now_s = now_s
        parts.feed.keep_numbers()
        return {name: runs[-1][1].trade_id for name, runs in file.read("id", T0, T0).items()}

    def match(number: int) -> Frame:
        fields = '"type":"match","product_id":"X","price":"1","size":"1"'
        data = f'{{{fields},"time":"2025-11-20T14:30:00Z","trade_id":{number}}}'
        return Frame(data, 0, T0, 0.0)

    assert kept_at(10) == {}
    parts.take(match(5))
    assert kept_at(21) == {}
    parts.take(match(6))
    assert kept_at(40) == {}
    parts.feed.keep_last_numbers()
    assert kept_at(41) == {}
    written(parts.outbox, tmp_path)
    assert kept_at(42) == {"COINBASE:X": 5}
    parts.feed.keep_last_numbers()
    assert kept_at(43) == {"COINBASE:X": 6}


def test_numbers_of_trades_that_are_neither_on_disk_nor_in_kafka_are_not_believed(
    tmp_path: Path,
) -> None:
    """The spool is gone, and Kafka has what was received until two seconds after the moment.

    Z is no longer asked for: when it comes back, nothing was left out.
    """
    file = IdFile(tmp_path / "p.numbers")
    names = (*SUBSCRIBED, "COINBASE:Z")
    runs = {name: [(Point(1, 1, T0), Point(9, 9, T0 + SECOND_US))] for name in names}
    earlier = a_status("p", last_message_us=T0 + 2 * SECOND_US)

    def believed(until_s: int) -> list[str]:
        file.write("id", T0 + until_s * SECOND_US, runs)
        parts = Parts(tmp_path / str(until_s), feed="coinbase", numbers=file, earlier=earlier)
        parts.feed.start([], LeftSpools(parts.outbox.producer, [], load_settings().spool))
        parts.now_s = 21.0
        parts.feed.keep_numbers()
        return list(file.read("id", T0 + 9 * SECOND_US, T0))

    assert believed(until_s=2) == list(SUBSCRIBED)
    assert believed(until_s=3) == []


def test_a_huge_frame_of_nothing_but_mistakes_is_a_dead_letter_that_kafka_takes(
    tmp_path: Path,
) -> None:
    parts = Parts(tmp_path)
    good = f'{{"s":"A","p":1,"t":{T0 // 1000},"v":1}}'
    data = f'{{"type":"trade","data":[{good}{",0" * 1_000_000}]}}'

    parts.take(frame(0, 0), Frame(data, 0, T0 + SECOND_US, 1.0))
    (letter,) = written(parts.outbox, tmp_path)

    assert letter.topic == load_settings().kafka.dead_letter_topic
    assert len(letter.value) == len(data)
    # Refused as a whole: `redrive` brings what is valid, and until then it is missing.
    assert len(dict(letter.headers)["rejects"]) < 100
    assert dict(letter.headers)["rejects"] == '[[null,"wrong_type"]]'
    assert [(gap.kind, gap.started_us, gap.ended_us) for gap in parts.reported] == [
        (GapKind.DROPPED, T0, T0 + SECOND_US)
    ]
    assert parts.outbox.producer.try_send(letter, lambda _error, _message: None)
    larger = letter._replace(headers=(("rejects", "0" * 16 * MB),))
    with pytest.raises(DeliveryError, match=r"topic trades_dlq: .*Message size too large"):
        parts.outbox.producer.try_send(larger, lambda _error, _message: None)


def written(outbox: Outbox, folder: Path) -> list[SpooledMessage]:
    """Let an outbox write what it has, and return that."""

    async def write() -> None:
        outbox.close_input()
        await outbox.write()

    asyncio.run(write())
    spool = Spool(folder, 64 * MB)
    return [m for group in spool.read(1, spool.last_number, 64 * MB) for m in group.messages]
