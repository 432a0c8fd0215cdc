"""The producer's report in its JSON form."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tapeline.model.feed_status import FeedStatus
from tapeline.model.reports import UnreadableReportError

STATUS = FeedStatus(
    producer_id="host-1",
    topic="trades_raw",
    topic_id="AbC-1",
    connected=True,
    pending=3,
    last_offsets={0: 41, 3: 7},
    newest_receipt_us=1_763_649_000_200_001,
    symbols=("AAPL", "BINANCE:BTCUSDT"),
    is_live=True,
    started_us=1_763_648_000_000_000,
    last_message_us=1_763_649_000_200_000,
    end_of_tape=False,
    frames=10,
    trades=50,
    dead_letters=1,
    without_slot={"AAPL": ((5, 7), (9, None))},
    removed=("AAPL",),
    oldest_unsent_us=1_763_648_999_000_000,
)


def test_a_status_is_plain_json():
    assert json.loads(STATUS.to_bytes()) == {
        "producer_id": "host-1",
        "topic": "trades_raw",
        "topic_id": "AbC-1",
        "connected": True,
        "pending": 3,
        "last_offsets": {"0": 41, "3": 7},
        "newest_receipt_us": 1_763_649_000_200_001,
        "symbols": ["AAPL", "BINANCE:BTCUSDT"],
        "is_live": True,
        "started_us": 1_763_648_000_000_000,
        "last_message_us": 1_763_649_000_200_000,
        "end_of_tape": False,
        "frames": 10,
        "trades": 50,
        "dead_letters": 1,
        "without_slot": {"AAPL": [[5, 7], [9, None]]},
        "removed": ["AAPL"],
        "clock_offset_s": None,
        "oldest_unsent_us": 1_763_648_999_000_000,
        "has_stopped": False,
        "late_us": 0,
        "source": "",
        "made_us": None,
    }


@pytest.mark.parametrize(
    "status",
    [STATUS, replace(STATUS, last_offsets={}, newest_receipt_us=None, end_of_tape=True)],
)
def test_a_status_is_read_back_as_it_was(status):
    assert FeedStatus.from_bytes(status.to_bytes()) == status


def test_an_older_producer_reports_one_time_without_a_slot():
    older = {**json.loads(STATUS.to_bytes()), "without_slot": {"AAPL": [5, None]}}
    del older["removed"]

    status = FeedStatus.from_bytes(json.dumps(older).encode())

    assert status.without_slot == {"AAPL": ((5, None),)}
    assert status.waiting == ("AAPL",)


def test_what_is_no_longer_asked_for_is_not_waited_for():
    status = replace(STATUS, without_slot={"AAPL": ((5, None),), "BINANCE:BTCUSDT": ((5, 7),)})

    assert status.subscribed == ("BINANCE:BTCUSDT",)
    assert status.waiting == ()
    assert replace(status, removed=()).waiting == ("AAPL",)


def test_the_key_tells_topics_and_producers_apart():
    keys = {
        STATUS.key,
        replace(STATUS, topic="demo").key,
        replace(STATUS, producer_id="host-2").key,
        replace(STATUS, pending=0, trades=51).key,
    }
    assert keys == {"trades_raw|host-1", "demo|host-1", "trades_raw|host-2"}


@pytest.mark.parametrize(
    "value",
    [b"", b"no json", b"[]", b"1", b"{}", b'{"last_offsets": {}}', b'{"last_offsets": {"a": 1}}'],
)
def test_other_bytes_are_refused(value):
    with pytest.raises(UnreadableReportError):
        FeedStatus.from_bytes(value)


def test_a_status_of_a_newer_producer_is_read_without_what_is_new():
    newer = json.dumps({**json.loads(STATUS.to_bytes()), "spool_bytes": 7}).encode()
    assert FeedStatus.from_bytes(newer) == STATUS


def test_an_older_producer_does_not_say_what_it_has_not_sent():
    older = json.loads(STATUS.to_bytes())
    del older["oldest_unsent_us"]
    assert FeedStatus.from_bytes(json.dumps(older).encode()).oldest_unsent_us is None
