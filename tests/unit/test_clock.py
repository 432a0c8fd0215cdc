"""The clock of receipts, against feeds that are right, late, wrong, and hosts that are off."""

from __future__ import annotations

import pytest

from tapeline.producer.clock import ClockCheck, ClockWarning, FeedClock
from tapeline.producer.feed_client import Frame

TRUE_S = 1_763_649_000.0
HOUR_S = 3600.0
STEADY_S = 500.0


class Host:
    """A machine whose clock is `off_s` ahead of the truth; `passes` lets time go by."""

    def __init__(self, off_s: float) -> None:
        self.off_s = off_s
        self.passed_s = 0.0
        self.clock = FeedClock(lambda: self.true_s + self.off_s, lambda: STEADY_S + self.passed_s)
        self.check = ClockCheck(self.clock)

    @property
    def true_s(self) -> float:
        return TRUE_S + self.passed_s

    def passes(self, seconds: float) -> None:
        self.passed_s += seconds

    def hears(self, name: str, age_s: float | None) -> list[Frame]:
        """Receive a frame whose newest trade was `age_s` ago; None is a ping."""
        steady_s = self.clock.steady_s()
        frame = Frame(name, 0, self.clock.at_us(steady_s), steady_s)
        newest_ms = None if age_s is None else round((self.true_s - age_s) * 1000)
        return self.check.admit(frame, newest_ms)


def names(frames: list[Frame]) -> str:
    return "".join(str(frame.data) for frame in frames)


@pytest.mark.parametrize("off_s", [0.0, 30.0, -30.0])
def test_a_clock_that_is_about_right_holds_nothing_back(off_s):
    host = Host(off_s)

    assert names(host.hears("a", 0.2)) == "a"
    assert names(host.hears("b", None)) == "b"
    host.passes(5)
    (frame,) = host.hears("c", 0.2)
    assert frame.received_at_us == round((TRUE_S + off_s + 5) * 1e6)


@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S, 90.0, -90.0, -20 * 365 * 24 * HOUR_S])
def test_a_clock_that_is_off_is_corrected_and_no_frame_is_lost_or_out_of_order(off_s):
    host = Host(off_s)
    warning = ClockWarning(host.clock)

    ready = []
    for name, age_s in (("a", 0.5), ("b", None), ("c", 0.2), ("d", 0.4), ("e", 0.3)):
        ready += host.hears(name, age_s)
        host.passes(1.0)
    warning.check()

    assert names(ready) == "abcde"
    for second, frame in enumerate(ready):
        # Right but for the delay of the freshest trade.
        assert frame.received_at_us == pytest.approx((TRUE_S + second) * 1e6, abs=500_000)
    assert warning.is_wrong
    assert host.clock.host_ahead_s() == pytest.approx(off_s, abs=0.5)


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S, 86_400.0])
def test_a_clock_that_steps_moves_no_receipt_and_is_called_wrong_until_it_steps_back(jump_s):
    host = Host(0.0)
    warning = ClockWarning(host.clock)
    host.hears("a", 0.1)

    host.off_s = jump_s
    host.passes(10)
    (frame,) = host.hears("b", 0.1)
    warning.check()

    assert frame.received_at_us == round((TRUE_S + 10) * 1e6)
    assert warning.is_wrong
    host.off_s = 0.0
    warning.check()
    assert not warning.is_wrong


@pytest.mark.parametrize("age_s", [40 * 60.0, -HOUR_S, -70 * 365 * 24 * HOUR_S])
def test_one_trade_that_is_late_or_of_the_future_waits_for_the_next_and_changes_nothing(age_s):
    host = Host(0.0)
    host.hears("a", 0.1)

    assert names(host.hears("b", age_s)) == ""
    host.passes(0.5)
    ready = host.hears("c", 0.1)

    assert names(ready) == "bc"
    assert [f.received_at_us for f in ready] == [round(TRUE_S * 1e6), round((TRUE_S + 0.5) * 1e6)]


def test_frames_of_old_trades_in_a_burst_do_not_move_the_clock():
    """A feed that sends again what is ten minutes old, at once; then the present."""
    host = Host(0.0)
    ready = []
    for name in "abcdef":
        ready += host.hears(name, 600.0)
        host.passes(0.1)
    ready += host.hears("g", 0.1)

    assert names(ready) == "abcdefg"
    assert ready[-1].received_at_us == round((TRUE_S + 0.6) * 1e6)


def test_trades_late_by_different_times_do_not_move_the_clock():
    host = Host(0.0)
    ready = []
    for name, age_s in zip("abcdef", (700, 2000, 300, 1200, 100, 1600), strict=True):
        ready += host.hears(name, float(age_s))
        host.passes(1.0)

    assert names(ready) == ""
    ready = host.hears("g", 0.1)
    assert names(ready) == "abcdefg"
    assert ready[-1].received_at_us == round((TRUE_S + 6) * 1e6)


def test_a_tape_of_long_ago_is_no_clock_that_is_wrong():
    host = Host(0.0)

    assert names(host.hears("a", 400 * 86_400.0)) == "a"
    assert host.clock.host_ahead_s() == pytest.approx(0.0)


@pytest.mark.parametrize(("age_s", "least_s"), [(600.0, 10.0), (-600.0, 60.0)])
def test_what_nothing_decides_goes_on_after_a_while(age_s, least_s):
    host = Host(0.0)
    host.hears("a", 0.1)
    host.hears("b", age_s)

    host.passes(least_s - 0.1)
    assert names(host.check.expire()) == ""
    host.passes(0.2)
    assert names(host.check.expire()) == "b"
    assert names(host.hears("c", None)) == "c"


def test_before_the_first_trade_pings_wait_a_little_so_that_they_get_the_right_time():
    host = Host(HOUR_S)

    assert names(host.hears("a", None)) == ""
    ready = []
    for name in "bcd":
        host.passes(1.0)
        ready += host.hears(name, 0.0)

    assert names(ready) == "abcd"
    assert ready[0].received_at_us == pytest.approx(TRUE_S * 1e6, abs=1000)
