"""The time by which frames are stamped: steady, and right by the feed's own times.

Read from the host's clock once and counted on from there, so that a clock that steps moves no
receipt. What the host's clock got wrong before that, the feed shows: its trades are of now.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

import structlog

from tapeline.model.feed_status import MOST_OFF_S
from tapeline.producer.feed_client import Frame
from tapeline.producer.steady import steady_s

log = structlog.get_logger()

OLDEST_S: Final = 86_400.0
"""A feed whose trades are older than this plays a tape: that is not the clock."""
_LEAST_SAMPLES: Final = 3
_LEAST_SPAN_S: Final = 2.0
_AGREE_WITHIN_S: Final = 10.0
_LONGEST_HOLD_S: Final = 10.0
_LONGEST_HOLD_AHEAD_S: Final = 60.0
"""Trades from the future are no trades at all if the clock is right, so they wait longer."""
_MOST_HELD: Final = 2_000
_MICROS: Final = 1_000_000


class FeedClock:
    """µs since the epoch, counted on a clock that never steps.

    Args:
        wall_s: the host's clock, seconds since the epoch.
        steady: seconds on a clock that never steps.
    """

    def __init__(
        self,
        wall_s: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady_s,
    ) -> None:
        self._wall_s = wall_s
        self.steady_s = steady
        """Seconds on a clock that never steps."""
        self._epoch_us = round((wall_s() - steady()) * _MICROS)
        self.is_checked = False
        """Whether the feed's times have been compared with it."""

    def at_us(self, steady_s: float) -> int:
        """Return what a reading of the steady clock was, µs since the epoch."""
        return self._epoch_us + int(steady_s * _MICROS)

    def now_us(self) -> int:
        """Return the time, µs since the epoch."""
        return self.at_us(self.steady_s())

    def correct(self, ahead_s: float) -> None:
        """Take off what the clock was ahead; less than 0 when it was behind."""
        self._epoch_us -= round(ahead_s * _MICROS)

    def host_ahead_s(self) -> float | None:
        """Return how far the host's clock is ahead of the feed's time, None while not known."""
        return self._wall_s() - self.now_us() / _MICROS if self.is_checked else None


class _Sample(NamedTuple):
    steady_s: float
    lag_s: float


class ClockCheck:
    """Holds frames back while it is in doubt whether the feed or the clock is wrong.

    A frame whose newest trade lies more than a minute from its receipt waits. If a frame follows
    that lies well, the clock is right, and the frame that waited was late or wrong. If all that
    follow are off by the same, over two seconds at least, the clock is wrong: it is corrected,
    and the frames get the receipts that they should have had. Frames leave in their order.
    """

    def __init__(self, clock: FeedClock) -> None:
        self._clock = clock
        self._held: list[Frame] = []
        self._samples: deque[_Sample] = deque(maxlen=_MOST_HELD)

    def admit(self, frame: Frame, newest_ms: int | None) -> list[Frame]:
        """Take one frame, and return those that may go on.

        Args:
            frame: the newest one.
            newest_ms: event time of its newest trade, ms since the epoch, None without one.
        """
        stamped = self._stamped(frame)
        if newest_ms is None:
            if self._clock.is_checked and not self._held:
                return [stamped]
        else:
            lag_s = stamped.received_at_us / _MICROS - newest_ms / 1000
            if -MOST_OFF_S <= lag_s <= MOST_OFF_S or lag_s > OLDEST_S:
                self._clock.is_checked = True
                return [*self.release(), stamped]
            self._samples.append(_Sample(frame.monotonic_s, lag_s))
            self._correct_if_they_agree()
        self._held.append(frame)
        is_decided = self._clock.is_checked and not self._samples
        return self.release() if is_decided or len(self._held) >= _MOST_HELD else []

    def expire(self) -> list[Frame]:
        """Return the frames that have waited too long for a decision."""
        if not self._held:
            return []
        is_ahead = any(sample.lag_s < 0 for sample in self._samples)
        longest_s = _LONGEST_HOLD_AHEAD_S if is_ahead else _LONGEST_HOLD_S
        waited_s = self._clock.steady_s() - self._held[0].monotonic_s
        return self.release() if waited_s > longest_s else []

    def release(self) -> list[Frame]:
        """Return all frames that wait."""
        held, self._held = self._held, []
        self._samples.clear()
        return [self._stamped(frame) for frame in held]

    def _correct_if_they_agree(self) -> None:
        samples = self._samples
        span_s = samples[-1].steady_s - samples[0].steady_s
        if len(samples) < _LEAST_SAMPLES or span_s < _LEAST_SPAN_S:
            return
        lags_s = [sample.lag_s for sample in samples]
        # Not the farthest of them: one trade may be late, or wrong.
        middle_s = statistics.median(lags_s)
        near_s = [lag_s for lag_s in lags_s if abs(lag_s - middle_s) <= _AGREE_WITHIN_S]
        if len(near_s) * 2 <= len(lags_s) or len(near_s) < _LEAST_SAMPLES:
            return
        self._clock.correct(min(near_s))
        self._clock.is_checked = True
        samples.clear()

    def _stamped(self, frame: Frame) -> Frame:
        received_us = self._clock.at_us(frame.monotonic_s)
        if frame.received_at_us == received_us:
            return frame
        return replace(frame, received_at_us=received_us)


class ClockWarning:
    """Says once that the host's clock is wrong, and once that it is right again."""

    def __init__(self, clock: FeedClock) -> None:
        self._clock = clock
        self.is_wrong = False
        """Whether it is off by more than a minute."""

    def check(self) -> None:
        """Compare the clocks."""
        ahead_s = self._clock.host_ahead_s()
        is_wrong = ahead_s is not None and abs(ahead_s) > MOST_OFF_S
        if is_wrong and not self.is_wrong:
            log.error("clock_wrong", host_ahead_s=round(ahead_s or 0.0, 1))
        elif self.is_wrong and not is_wrong:
            log.info("clock_right")
        self.is_wrong = is_wrong
