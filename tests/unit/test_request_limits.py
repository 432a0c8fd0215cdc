"""Limits of requests: buckets worked out by hand, and how many of them are remembered."""

from __future__ import annotations

import pytest

from tapeline.api.limits import RequestLimits, client_at


class Clock:
    """A clock that a test sets."""

    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def limits(per_s: float, burst: int) -> tuple[RequestLimits, Clock]:
    clock = Clock()
    return RequestLimits(per_s, burst, clock), clock


def test_a_burst_and_then_so_many_a_second():
    """Two a second and three at once: the fourth waits half a second; each second gives two."""
    bucket, clock = limits(2, 3)

    assert [bucket.take("a") for _ in range(4)] == pytest.approx([0, 0, 0, 0.5])
    assert bucket.take("a") == pytest.approx(0.5)  # a refusal takes nothing
    assert bucket.take("b") == 0  # another client has a bucket of its own
    clock.now_s += 0.4
    assert bucket.take("a") == pytest.approx(0.1)
    clock.now_s += 0.1
    assert [bucket.take("a") for _ in range(2)] == pytest.approx([0, 0.5])
    clock.now_s += 1
    assert [bucket.take("a") for _ in range(3)] == pytest.approx([0, 0, 0.5])
    clock.now_s += 1000  # it holds three at most
    assert [bucket.take("a") for _ in range(4)] == pytest.approx([0, 0, 0, 0.5])


@pytest.mark.parametrize("per_s", [0.3, 3.0, 7.0, 1000.0])
def test_who_waits_as_long_as_was_said_is_let_in(per_s):
    bucket, clock = limits(per_s, 1)
    for _ in range(1000):
        while wait_s := bucket.take("a"):
            clock.now_s += wait_s
    assert clock.now_s == pytest.approx(50 + 999 / per_s)


def test_without_a_limit_or_a_client_nothing_is_counted():
    bucket, _ = limits(0, 1)
    assert {bucket.take("a") for _ in range(1000)} == {0}
    other, _ = limits(1, 1)
    assert {other.take("") for _ in range(1000)} == {0}
    assert len(bucket) == len(other) == 0


def test_who_came_once_is_forgotten():
    bucket, clock = limits(10, 10)
    for number in range(5000):
        bucket.take(f"{number}")
    clock.now_s += 61
    bucket.take("a")
    assert len(bucket) == 1


def test_never_more_than_ten_thousand_are_remembered_and_the_busy_ones_stay():
    bucket, _ = limits(0.001, 2)
    assert [bucket.take("busy"), bucket.take("busy")] == [0, 0]
    for number in range(9000):
        bucket.take(f"{number}")
    for number in range(100_000):
        assert bucket.take(f"other {number}") == 0
        assert len(bucket) <= 10_000
        if number % 5000 == 0:
            bucket.take("0")  # a refusal keeps nobody
    assert bucket.take("other 99999") == 0
    assert bucket.take("other 99999") > 0


@pytest.mark.parametrize(
    ("host", "client"),
    [
        (None, ""),
        ("127.0.0.1", ""),
        ("127.8.8.8", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("x" * 60_000, "unknown"),
    ],
)
def test_whom_limits_count(host, client):
    assert client_at(host) == client
