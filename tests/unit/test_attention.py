"""Since when a reader may be behind: worked by hand on a clock in seconds.

.   keeps up, a tick each 0.1 s        S   stopped        B   busy, never waits
"""

from __future__ import annotations

import pytest

from tapeline.producer.attention import Attention


class Reader:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.attention = Attention(self.now_s)

    def keeps_up(self, seconds: float, busy: float = 0.5) -> None:
        """Read a frame each 10 ms, and wait for the next one in what time is left."""
        for _ in range(round(seconds / 0.1)):
            for _ in range(10):
                self.now_s += 0.01 * busy
                self.attention.waits(self.now_s)
                self.now_s += 0.01 * (1 - busy)
                self.attention.reads(self.now_s)
            self.attention.tick(self.now_s)

    def is_busy(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            for _ in range(10):
                self.attention.waits(self.now_s)
                self.attention.reads(self.now_s)
                self.now_s += 0.01
            self.attention.tick(self.now_s)

    def waits(self, seconds: float) -> None:
        """Wait for one frame, while ticks go on."""
        self.attention.waits(self.now_s)
        for _ in range(round(seconds / 0.1)):
            self.now_s += 0.1
            self.attention.tick(self.now_s)
        self.attention.reads(self.now_s)

    def is_stopped(self, seconds: float) -> None:
        self.now_s += seconds
        self.attention.tick(self.now_s)


def test_who_waits_for_frames_keeps_up():
    reader = Reader()
    reader.keeps_up(5)
    reader.waits(60)

    assert reader.attention.behind_since_s is None


@pytest.mark.parametrize("waits", [False, True])
def test_one_who_was_stopped_is_behind_since_the_last_tick_before(waits):
    reader = Reader()
    reader.keeps_up(3)
    if waits:
        reader.attention.waits(reader.now_s)
    reader.is_stopped(30)
    reader.is_busy(0.3)

    assert reader.attention.behind_since_s == pytest.approx(103.0)


def test_a_stop_is_known_to_whoever_asks_before_the_next_tick():
    reader = Reader()
    reader.keeps_up(3)
    assert reader.attention.last_kept_up_s(reader.now_s + 0.3) is None
    reader.now_s += 30

    assert reader.attention.last_kept_up_s(reader.now_s) == pytest.approx(103.0)


def test_one_who_is_too_busy_to_wait_is_behind_since_it_last_did():
    reader = Reader()
    reader.keeps_up(2)
    reader.is_busy(5)

    assert reader.attention.behind_since_s == pytest.approx(102.0)


def test_one_who_waits_again_for_a_while_has_caught_up():
    reader = Reader()
    reader.keeps_up(2)
    reader.is_stopped(10)
    reader.is_busy(2)
    reader.keeps_up(0.2)
    assert reader.attention.behind_since_s == pytest.approx(102.0)
    reader.keeps_up(0.3)

    assert reader.attention.behind_since_s is None
