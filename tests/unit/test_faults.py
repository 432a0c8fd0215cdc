"""Faults change how trades arrive, and the ledger counts what that must come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.model.errors import UsageError
from tapeline.simulator.faults import FaultyFeed, parse_faults
from tapeline.simulator.feed import FeedEvent, FeedFrame, Outage
from tapeline.simulator.ledger import Ledger, SentReport

START_MS = 1_763_649_000_000


class Plain:
    """Two symbols, a frame a second, two twins in each; nothing goes wrong."""

    symbols = ("A", "B")
    start_ms = START_MS

    def __init__(self, frames: int = 300, *, is_live: bool = False) -> None:
        self.is_live = is_live
        self._frames = frames

    def frames(self, _now_ms: int) -> Iterator[FeedEvent]:
        for second in range(self._frames):
            due_ms = START_MS + second * 1000
            twin = {"s": "A", "p": 1.0, "t": due_ms, "v": 2.0, "c": None}
            other = {"s": "B", "p": 1.0, "t": due_ms, "v": 1.0, "c": None}
            yield FeedFrame(due_ms, [twin, dict(twin), other])


def events(*faults: str, seed: int = 1, now_ms: int = START_MS) -> list[FeedEvent]:
    return list(FaultyFeed(Plain(), parse_faults(faults), seed).frames(now_ms))


def frames_of(*faults: str, seed: int = 1) -> list[FeedFrame]:
    return [e for e in events(*faults, seed=seed) if isinstance(e, FeedFrame)]


def trades_of(frames: list[FeedFrame]) -> Counter[tuple[str, int]]:
    return Counter((t["s"], t["t"]) for f in frames for t in f.trades)


def recorded(frames: list[FeedFrame], clock: list[float] | None = None) -> SentReport:
    ticks = iter(clock) if clock else None
    ledger = Ledger(lambda: next(ticks) if ticks else 0.0)
    ledger.connect()
    for frame in frames:
        ledger.record(frame)
    return ledger.report


ORIGINAL = trades_of(frames_of())


def test_without_faults_nothing_changes():
    assert [f.trades for f in frames_of()] == [f.trades for f in Plain().frames(0)]


@given(seed=st.integers(0, 1000))
def test_reordering_keeps_every_trade_and_what_shares_its_millisecond(seed):
    frames = frames_of("reorder=1m", seed=seed)

    assert trades_of(frames) == ORIGINAL
    assert [f.due_ms for f in frames] == sorted(f.due_ms for f in frames)
    assert all(0 <= f.due_ms - f.trades[0]["t"] <= 60_000 for f in frames)
    assert [f.trades[0]["t"] for f in frames] != sorted(f.trades[0]["t"] for f in frames)


@given(seed=st.integers(0, 1000))
def test_late_trades_come_late_together_and_once(seed):
    frames = frames_of("late=0.2:11m-40m", seed=seed)

    assert trades_of(frames) == ORIGINAL
    late = [f for f in frames if f.due_ms != f.trades[0]["t"]]
    assert late
    assert all(660_000 <= f.due_ms - f.trades[0]["t"] <= 2_400_000 for f in late)
    # Both twins of a late millisecond are in its frame.
    assert all(len(f.trades) == (2 if f.trades[0]["s"] == "A" else 1) for f in late)


@given(seed=st.integers(0, 1000))
def test_redelivered_frames_share_a_number_and_come_after_the_first(seed):
    frames = frames_of("redeliver=0.3:20s", seed=seed)

    first = {f.number: f for f in reversed(frames)}
    assert trades_of(list(first.values())) == ORIGINAL
    again = [f for f in frames if first[f.number] is not f]
    assert again
    assert all(0 < f.due_ms - f.trades[0]["t"] <= 20_000 for f in again)


@given(seed=st.integers(0, 1000))
def test_repeated_frames_come_two_or_three_times_at_once(seed):
    frames = frames_of("repeat=0.3", seed=seed)

    times = Counter(f.number for f in frames)
    assert trades_of([f for i, f in enumerate(frames) if f not in frames[:i]]) == ORIGINAL
    assert set(times.values()) == {1, 2, 3}
    assert [f.due_ms for f in frames] == [f.trades[0]["t"] for f in frames]
    # What comes again comes next.
    assert [f.number for f in frames] == sorted(f.number or 0 for f in frames)


def test_the_same_seed_makes_the_same_faults_and_another_seed_others():
    faults = ("redeliver=0.3", "reorder=1m", "late=0.1:11m-12m", "bad=0.1", "malformed=0.1")

    assert events(*faults, seed=3) == events(*faults, seed=3)
    assert events(*faults, seed=3) != events(*faults, seed=4)


def test_a_tape_played_twice_has_the_same_faults():
    feed = FaultyFeed(Plain(), parse_faults(["redeliver=0.3", "reorder=1m"]), 1)

    assert list(feed.frames(START_MS)) == list(feed.frames(START_MS))


def test_bad_trades_are_added_and_marked():
    frames = frames_of("bad=0.5")

    good = Counter(
        (t["s"], t["t"]) for f in frames for i, t in enumerate(f.trades) if i not in f.bad
    )
    assert good == ORIGINAL
    assert recorded(frames).bad_trades == sum(len(f.bad) for f in frames) > 100


def test_malformed_frames_stand_beside_the_good_ones():
    frames = frames_of("malformed=0.5")

    assert trades_of(frames) == ORIGINAL
    assert recorded(frames).malformed_frames == sum(f.text is not None for f in frames) > 100


@pytest.mark.parametrize(("fault", "is_drop"), [("drop", True), ("silence", False)])
def test_what_is_due_in_an_outage_is_lost(fault, is_drop):
    got = events(f"{fault}=60s:90s")

    (outage,) = [e for e in got if isinstance(e, Outage)]
    assert outage == Outage(START_MS + 60_000, START_MS + 150_000, is_drop)
    seconds = [(e.due_ms - START_MS) // 1000 for e in got if isinstance(e, FeedFrame)]
    assert seconds == [*range(60), *range(150, 300)]
    assert isinstance(got[60], Outage)


def test_a_copy_of_a_frame_that_fell_into_an_outage_is_no_redelivery():
    frames = frames_of("redeliver=0.5:60s", "silence=60s:90s")

    report = recorded(frames)

    arrived = {(t["s"], t["t"]) for f in frames for t in f.trades}
    twins = sum(2 if symbol == "A" else 1 for symbol, _ in arrived)
    assert report.trades - report.redelivered == twins


def test_of_overlapping_outages_the_longer_one_holds():
    got = events("silence=60s:90s", "drop=80s:10s")

    seconds = [(e.due_ms - START_MS) // 1000 for e in got if isinstance(e, FeedFrame)]
    assert seconds == [*range(60), *range(150, 300)]


def test_a_live_feed_forgets_an_outage_that_is_over():
    feed = FaultyFeed(Plain(is_live=True), parse_faults(["drop=60s:90s"]), 1)

    again = list(feed.frames(START_MS + 150_000))

    assert not any(isinstance(e, Outage) for e in again)


def test_only_one_trade_sent_again_before_anything_newer_is_ambiguous():
    """A@1 A@2 again is known by its company; A@2 alone could be a twin."""

    def frame(number: int, *seconds: int) -> FeedFrame:
        trades = [{"s": "A", "p": 1.0, "t": START_MS + s, "v": 3.0, "c": None} for s in seconds]
        return FeedFrame(START_MS, trades, number)

    both, alone, newer = frame(0, 1, 2), frame(0, 2), frame(1, 3)
    in_company = recorded([both, both, newer])
    at_once = recorded([alone, alone, newer])
    later = recorded([alone, newer, alone])
    on_the_line = recorded([alone, alone], clock=[0.0, 2.01])
    much_later = recorded([alone, alone], clock=[0.0, 2.5])

    assert (in_company.redelivered, in_company.ambiguous, in_company.silver) == (2, 0, 3)
    assert (at_once.redelivered, at_once.ambiguous, at_once.silver) == (1, 1, 3)
    assert at_once.ambiguous_volume == {f"A|{START_MS // 300_000 * 300_000}": 3.0}
    assert (later.redelivered, later.ambiguous, later.silver) == (1, 0, 2)
    assert (on_the_line.unsure, on_the_line.silver) == (1, 2)
    assert (much_later.ambiguous, much_later.silver) == (0, 1)


def test_a_report_is_read_back_as_it_was_written(tmp_path):
    report = recorded(frames_of("redeliver=0.3", "bad=0.2"))
    report.write(tmp_path / "report.json")

    assert SentReport.read(tmp_path / "report.json") == report


def test_a_client_that_subscribed_to_one_symbol_gets_its_trades_and_the_bad_ones():
    good = {"s": "A", "p": 1.0, "t": START_MS, "v": 1.0, "c": None}
    bad = {"s": "", "p": 1.0, "t": START_MS, "v": 1.0, "c": None}
    frame = FeedFrame(START_MS, [{**good, "s": "B"}, bad, good], bad=frozenset({1}))

    part = frame.of_symbols(frozenset({"A"}))

    assert part == FeedFrame(START_MS, [bad, good], bad=frozenset({0}))


@pytest.mark.parametrize(
    "text",
    [
        *("redeliver", "redeliver=2", "redeliver=-0.1", "redeliver=x", "redeliver=0.1:5"),
        *(
            "reorder=5",
            "late=0.1",
            "late=0.1:5m",
            "late=0.1:5m-1m",
            "drop=5m",
            "silence=1s:",
            "noise=1",
            "",
        ),
    ],
)
def test_what_is_no_fault_is_one_sentence_with_the_forms(text):
    with pytest.raises(UsageError, match=r"is no fault\. A fault, repeatable: redeliver=0\.1"):
        parse_faults([text])
