"""One driver at a time on a checkpoint that several hosts reach, on files of a local disk.

A file system of a cluster is asked for no more: a file that only one can make, and lists.
"""

from __future__ import annotations

import os
import threading
import time

import pytest

from tapeline.consumer.driver_lock import DriverLock
from tapeline.model.errors import StreamError, UsageError

BEAT_S = 0.05
STALE_S = 2.0
MESSAGE = "Another driver works on it."


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ingest.drivers"


@pytest.fixture
def lock(folder):
    """Give drivers of this test; those that it leaves are let go at its end."""
    made = []

    def make(beat_s=BEAT_S):
        made.append(DriverLock(folder, beat_s, STALE_S))
        return made[-1]

    yield make
    for one in made:
        one.be_still()


def require_for(driver, seconds):
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        driver.require()
        time.sleep(BEAT_S)


def test_a_driver_that_lives_keeps_a_second_one_out_for_as_long_as_it_lives(lock):
    first, second = lock(), lock()
    first.take(MESSAGE, 0)

    began_s = time.monotonic()
    with pytest.raises(UsageError, match=f"works on it. It runs on .*, process {os.getpid()}"):
        second.take(MESSAGE, 3 * STALE_S)
    assert time.monotonic() - began_s >= 3 * STALE_S
    first.require()


def test_one_that_does_not_want_to_wait_is_refused_before_a_dead_one_would_be_taken_over(lock):
    first, second = lock(), lock()
    first.take(MESSAGE, 0)

    began_s = time.monotonic()
    with pytest.raises(UsageError):
        second.take(MESSAGE, 0)
    assert time.monotonic() - began_s < STALE_S


def test_one_that_was_let_go_is_had_at_once(lock):
    first, second = lock(), lock()
    first.take(MESSAGE, 0)
    first.release()

    began_s = time.monotonic()
    second.take(MESSAGE, 0)
    assert time.monotonic() - began_s < STALE_S


def test_one_that_is_let_go_meanwhile_is_had_before_the_wait_is_over(lock):
    first, second = lock(), lock()
    first.take(MESSAGE, 0)
    threading.Timer(0.2, first.release).start()

    second.take(MESSAGE, 60)
    second.require()


def test_a_killed_driver_is_taken_over_once_it_has_been_still_for_long_enough(lock):
    first, second = lock(), lock()
    first.take(MESSAGE, 0)
    first.be_still()  # as kill -9 leaves it

    began_s = time.monotonic()
    second.take(MESSAGE, 0)
    assert STALE_S <= time.monotonic() - began_s < 3 * STALE_S


def test_a_driver_that_stood_still_and_was_taken_over_stops(lock):
    first, second = lock(3 * STALE_S), lock()
    first.take(MESSAGE, 0)
    second.take(MESSAGE, 0)
    first.require()  # it has not looked since

    with pytest.raises(StreamError, match="has taken over the checkpoint"):
        require_for(first, 10)
    first.release()  # which is not its own to let go
    second.require()
    with pytest.raises(UsageError):
        lock().take(MESSAGE, 0)


def test_one_of_many_that_want_it_at_once_has_it(lock):
    drivers = [lock() for _ in range(8)]
    had = []

    def take(driver):
        try:
            driver.take(MESSAGE, 0)
        except UsageError:
            return
        had.append(driver)

    threads = [threading.Thread(target=take, args=(driver,)) for driver in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(had) == 1
    had[0].require()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"beat":'])
def test_one_that_was_killed_while_it_wrote_is_taken_over(lock, folder, content):
    folder.mkdir()
    (folder / "7").write_bytes(content)

    lock().take(MESSAGE, 0)
    assert [path.name for path in folder.iterdir()] == ["8"]
