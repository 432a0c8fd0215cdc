"""What a watch tells: ids from the data alone, each event once, and none that did not happen."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest
from structlog.testing import capture_logs

from tapeline.client.bars import StreamedBar
from tapeline.model.errors import SpoolError
from tapeline.watch.events import bar_event, gap_event
from tapeline.watch.judge import Judge
from tapeline.watch.outbox import Outbox
from tapeline.watch.rules import parse_rule
from tests.commands import wait_for

START = datetime(2026, 11, 20, 14, 35, tzinfo=timezone.utc)
NOW = START + timedelta(minutes=7)
FIVE = timedelta(minutes=5)
GAP = {
    "start": "2026-11-20T14:35:00Z",
    "end": None,
    "kind": "disconnected",
    "marks_bars": True,
    "producer": "host-1",
    "symbols": ["AAPL", "MSFT"],
    "healed": [],
}
QUIET = {**GAP, "kind": "symbol_silent", "marks_bars": False, "symbols": ["MSFT"]}


def bar(number: int = 0, close: float | None = 2.0, **changes) -> StreamedBar:
    start = START + number * FIVE
    fields = {
        "symbol": "AAPL",
        "interval": "5m",
        "window_start": start,
        "window_end": start + FIVE,
        "open": 1.0,
        "high": 3.0,
        "low": 0.5,
        "close": close,
        "volume": 10.5,
        "vwap": 2.0,
        "trade_count": 4,
        "is_final": False,
        "is_complete": None,
        "revision": 0,
        "session": "regular",
    }
    return StreamedBar(**{**fields, **changes})


def final(number: int = 0, close: float = 2.0, revision: int = 1, **changes) -> StreamedBar:
    own = {"is_final": True, "is_complete": True, "revision": revision}
    return bar(number, close, **{**own, **changes})


class Told:
    """A watch of some rules, and what it has put into its outbox; it can be started again."""

    def __init__(self, folder, *texts, since=START, max_events=1000):
        self.file = folder / "outbox.sqlite"
        self.max_events = max_events
        self.start(*texts, since=since)

    def start(self, *texts, since=START):
        self.outbox = Outbox(self.file, self.max_events)
        self.judge = Judge([parse_rule(text) for text in texts], self.outbox, since)

    def take(self):
        """Return what waits, oldest first, and take it."""
        found = []
        while self.outbox.pending:
            event = self.outbox.next()
            found.append(json.loads(event.body)["data"])
            self.outbox.delivered(event)
        return found

    def remembered(self):
        """Return of how many events the file knows that they were told."""
        with closing(sqlite3.connect(self.file)) as file:
            return file.execute("SELECT count(*) FROM told").fetchone()[0]

    def windows(self):
        """Return the number of each window that is told, and its revision."""
        bars = [data["bar"] for data in self.take()]
        starts = [datetime.fromisoformat(bar["window_start"]) for bar in bars]
        return [
            ((start - START) // FIVE, bar["revision"])
            for start, bar in zip(starts, bars, strict=True)
        ]


def test_ids_are_made_of_the_data_alone():
    """By `printf '["5m final","AAPL","2026-11-20T14:35:00Z","2"]' | sha256sum`, and so on."""
    rule, price = parse_rule("AAPL final"), parse_rule("MSFT,AAPL close > 280", "a name")
    gap = parse_rule("AAPL gap")
    later = NOW + timedelta(days=3)
    found = [
        bar_event(rule, final(revision=2), NOW),
        bar_event(rule, final(close=9.0, revision=2), later),
        bar_event(price, bar(close=281.0), NOW),
        bar_event(price, bar(close=282.0, trade_count=9), later),
        gap_event(gap, GAP, NOW),
        gap_event(gap, {**GAP, "end": "2026-11-20T14:36:00Z"}, NOW),
    ]
    assert [event.id for event in found] == [
        "evt_1504ec5bf7dd8a59a63c2abe2eb47109",
        "evt_1504ec5bf7dd8a59a63c2abe2eb47109",
        "evt_45dd704499d9e67747c2356b9b3db1a7",
        "evt_45dd704499d9e67747c2356b9b3db1a7",
        "evt_c69b39cba56674613a39b0408d8a6493",
        "evt_c271b7d9cc7b6f89d1021b00beacda07",
    ]


def test_a_body_says_what_happened():
    body = json.loads(bar_event(parse_rule("AAPL close > 1", "high"), bar(), NOW).body)
    assert body["type"] == "price"
    assert body["timestamp"] == "2026-11-20T14:42:00Z"
    assert body["data"]["rule"] == "high"
    assert body["data"]["bar"]["window_start"] == "2026-11-20T14:35:00Z"
    assert (body["data"]["bar"]["close"], body["data"]["bar"]["is_final"]) == (2.0, False)


def test_each_final_bar_is_told_once_and_each_revision(tmp_path):
    told = Told(tmp_path, "AAPL final")
    for state in (bar(), final(), final(), bar(1), final(revision=2), final(1), final()):
        told.judge.bar(state)
    assert told.windows() == [(0, 1), (0, 2), (1, 1)]


def test_a_final_bar_may_have_to_fulfil_something(tmp_path):
    told = Told(tmp_path, "AAPL final close > 2")
    for state in (final(0, 1.0), bar(1, 9.0), final(1, 3.0), final(2, 4.0)):
        told.judge.bar(state)
    assert told.windows() == [(1, 1), (2, 1)]


def test_a_price_is_told_when_it_begins_to_hold_and_once_a_window(tmp_path):
    """3 is above 2 in windows 0, 1 (all the time), 3 (three times), and 4 (it never ended)."""
    told = Told(tmp_path, "AAPL close > 2")
    closes = [
        (0, 1),
        (0, 3),
        (0, 3.5),
        (1, 3),
        (2, 2),
        (3, 3),
        (3, 1),
        (3, 3),
        (3, 1),
        (3, 3),
        (4, 3),
    ]
    for number, close in closes:
        told.judge.bar(bar(number, float(close)))
    assert told.windows() == [(0, 0), (3, 0)]


def test_a_price_that_holds_already_is_told_at_once_and_none_says_nothing(tmp_path):
    told = Told(tmp_path, "AAPL close > 2")
    for state in (bar(0, 3.0), bar(1, None), bar(2, 3.0)):
        told.judge.bar(state)
    assert told.windows() == [(0, 0)]


def test_what_becomes_known_of_an_earlier_window_is_no_price_of_now(tmp_path):
    told = Told(tmp_path, "AAPL close > 2")
    for state in (bar(0, 1.0), bar(1, 1.0), final(0, 3.0)):
        told.judge.bar(state)
    assert told.windows() == []


def test_a_restart_neither_loses_nor_invents(tmp_path):
    rules = ("AAPL final", "AAPL close > 2")
    states = [bar(0, 3.0), bar(1, 1.0), final(0, 3.0), bar(2, 5.0), final(1, 1.0), final(2, 5.0)]
    told = Told(tmp_path, *rules)
    for state in states[:4]:
        told.judge.bar(state)
    # All is read again after a restart, in order of time, and then what is new.
    told.start(*rules, since=NOW + timedelta(days=1))
    assert told.judge.since("5m") == START
    for state in (final(0, 3.0), final(1, 1.0), final(2, 5.0), bar(3, 1.0), bar(4, 7.0)):
        told.judge.bar(state)
    assert sorted(told.windows()) == sorted(
        [(0, 0), (0, 1), (2, 0), (1, 1), (2, 1), (4, 0)]  # revision 0: of the price
    )


def test_bars_are_read_again_for_a_day_and_what_was_told_before_is_forgotten(tmp_path):
    told = Told(tmp_path, "AAPL final")
    for number in range(0, 12 * 24 * 5, 6):  # five days
        told.judge.bar(final(number))
    newest = START + 12 * 24 * 5 * FIVE - 6 * FIVE
    assert told.judge.since("5m") == newest - timedelta(days=1)
    assert told.remembered() == 49  # two an hour, both ends of a day among them


def test_a_kill_while_bars_are_read_again_reads_no_older_ones_next_time(tmp_path):
    told = Told(tmp_path, "AAPL final")
    for number in (0, 12 * 24 * 3):
        told.judge.bar(final(number))
    for _ in range(2):
        told.start("AAPL final")
        since = told.judge.since("5m")
        assert since == START + timedelta(days=2)
        told.judge.bar(final((since - START) // FIVE))


def test_a_new_rule_tells_nothing_of_before_and_one_that_comes_back_is_new(tmp_path):
    told = Told(tmp_path, "AAPL final")
    told.judge.bar(final(0))
    told.take()
    told.start("AAPL final", "AAPL final close > 1", since=START + 2 * FIVE)
    for number in (0, 1, 2):
        told.judge.bar(final(number))
    assert sorted(told.windows()) == [(1, 1), (2, 1), (2, 1)]
    told.start("AAPL final close > 1", since=START + 3 * FIVE)
    told.start("AAPL final", since=START + 4 * FIVE)
    assert told.judge.since("5m") == START + 4 * FIVE


def test_a_rule_that_is_added_tells_from_its_own_beginning_on_and_the_others_nothing_again(
    tmp_path,
):
    """It is added after three days and told to begin two days before; it is killed on its way."""
    a_day = 12 * 24
    told = Told(tmp_path, "AAPL final")
    for number in range(0, 3 * a_day + 1, a_day):
        told.judge.bar(final(number))
    told.take()
    both = ("AAPL final", "AAPL final close > 1", "MSFT final")
    found = []
    for last in (2, 3):  # the next run reads all of it again, and something newer
        told.start(*both, since=START + a_day * FIVE)
        assert told.judge.since("5m") == START + a_day * FIVE
        for number in range(1, last + 1):
            for symbol in ("AAPL", "MSFT"):
                told.judge.bar(final(number * a_day, symbol=symbol))
        found += [(data["rule"], data["bar"]["symbol"]) for data in told.take()]
    assert sorted(found) == sorted([("AAPL final close > 1", "AAPL"), ("MSFT final", "MSFT")] * 3)
    for symbol in ("AAPL", "MSFT"):
        told.judge.bar(final(3 * a_day + 1, symbol=symbol))
    told.start(*both, since=START)
    assert told.judge.since("5m") == START + (2 * a_day + 1) * FIVE


def test_bars_before_the_window_of_the_start_are_not_told(tmp_path):
    told = Told(tmp_path, "AAPL final", since=START + timedelta(minutes=7))
    for number in (0, 1, 2):
        told.judge.bar(final(number))
    assert told.windows() == [(1, 1), (2, 1)]


def test_a_gap_is_told_when_it_begins_and_when_it_has_ended(tmp_path):
    told = Told(tmp_path, "AAPL gap", "TSLA gap", "MSFT silent")
    over = {**GAP, "end": "2026-11-20T14:40:00Z"}
    for gaps in ([], [GAP], [GAP, QUIET], [over, QUIET], [over, QUIET]):
        told.judge.gaps(gaps)
    assert [(d["rule"], d["gap"]["end"], d["gap"]["symbols"]) for d in told.take()] == [
        ("AAPL gap", None, ["AAPL"]),
        ("MSFT silent", None, ["MSFT"]),
        ("AAPL gap", "2026-11-20T14:40:00Z", ["AAPL"]),
    ]
    told.start("AAPL gap", "TSLA gap", "MSFT silent")
    told.judge.gaps([over, QUIET])
    assert told.take() == []


def test_a_gap_that_was_over_before_is_not_told_and_any_symbol_counts_without_one(tmp_path):
    told = Told(tmp_path, "gap", since=START + timedelta(minutes=3))
    told.judge.gaps([{**GAP, "end": "2026-11-20T14:37:00Z"}, {**GAP, "producer": "host-2"}])
    assert [data["gap"]["producer"] for data in told.take()] == ["host-2"]


def test_gaps_of_two_symbols_are_two_events_though_they_began_and_ended_together(tmp_path):
    told = Told(tmp_path, "gap", "AAPL,MSFT silent")
    skipped = {**GAP, "kind": "skipped", "end": "2026-11-20T14:36:00Z", "symbols": ["AAPL"]}
    told.judge.gaps([skipped, QUIET, {**QUIET, "symbols": ["AAPL"]}])
    # Another number of that instant is found missing: it is one gap of both.
    told.judge.gaps([{**skipped, "symbols": ["AAPL", "MSFT"]}])
    assert [(data["rule"], data["gap"]["symbols"]) for data in told.take()] == [
        ("gap", ["AAPL"]),
        ("AAPL,MSFT silent", ["AAPL"]),
        ("AAPL,MSFT silent", ["MSFT"]),
        ("gap", ["AAPL", "MSFT"]),
    ]


def test_a_gap_that_is_healed_is_told_with_its_end_and_once(tmp_path):
    """It ends and is healed between two looks, of one symbol after the other."""
    told = Told(tmp_path, "gap", "AAPL gap")
    over = {**GAP, "end": "2026-11-20T14:40:00Z"}
    for symbols, healed in ((["MSFT"], ["AAPL"]), ([], ["AAPL", "MSFT"])):
        told.judge.gaps([{**over, "symbols": symbols, "healed": healed}])
    assert [(d["rule"], d["gap"]["symbols"], d["gap"]["healed"]) for d in told.take()] == [
        ("gap", ["MSFT"], ["AAPL"]),
        ("AAPL gap", [], ["AAPL"]),
    ]


def test_what_was_told_of_gaps_is_forgotten_with_them(tmp_path):
    told = Told(tmp_path, "gap")
    for number in range(50):
        told.judge.gaps([{**GAP, "producer": f"host-{number}"}])
    assert told.remembered() == 1


def test_the_feed_is_told_when_it_goes_and_when_it_is_back(tmp_path):
    told = Told(tmp_path, "feed")
    for state in ("live", "live", "stale", "stale"):
        told.judge.feed(state, "")
    told.start("feed")
    for state in ("stale", "live", "ended", "away"):
        told.judge.feed(state, "")
    assert [(d["feed"]["before"], d["feed"]["state"]) for d in told.take()] == [
        ("live", "stale"),
        ("stale", "live"),
        ("ended", "away"),
    ]


def test_a_full_outbox_says_so_and_takes_the_rest_once_there_is_room(tmp_path):
    told = Told(tmp_path, "AAPL final", max_events=3)
    reader = threading.Thread(target=lambda: [told.judge.bar(final(n)) for n in range(10)])
    with capture_logs() as logs:
        reader.start()
        reader.join(1.5)
        assert reader.is_alive()
        assert told.outbox.pending == 3
        found = []
        while reader.is_alive() or told.outbox.pending:
            found += told.windows()
    assert found == [(n, 1) for n in range(10)]
    assert "outbox_full" in {entry["event"] for entry in logs}


def test_a_full_outbox_says_so_once_and_once_that_it_is_full_no_more(tmp_path):
    told = Told(tmp_path, "AAPL final", max_events=4)
    reader = threading.Thread(target=lambda: [told.judge.bar(final(n)) for n in range(20)])
    with capture_logs() as logs:
        reader.start()
        for _ in range(15):  # one goes, and the next one comes
            wait_for(lambda: told.outbox.pending == 4, 10)
            told.outbox.delivered(told.outbox.next())
        reader.join(10)
        told.take()
    assert [entry["event"] for entry in logs] == ["outbox_full", "outbox_has_room"]
    assert logs[1]["events"] == 2


def test_nobody_else_may_read_the_outbox_and_a_broken_one_is_a_sentence(tmp_path):
    told = Told(tmp_path, "gap")
    assert {file.stat().st_mode & 0o077 for file in tmp_path.iterdir()} == {0}
    del told
    (tmp_path / "broken").write_bytes(b"no database" * 1000)
    with pytest.raises(SpoolError, match="cannot be used"):
        Outbox(tmp_path / "broken", 10)
