"""Deliveries to a real receiver on loopback: signed, tried again, and each at least once."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from tapeline.client.api import Api
from tapeline.program.watch_settings import webhook_url
from tapeline.watch.delivery import deliver, pause_s
from tapeline.watch.events import Event
from tapeline.watch.outbox import Outbox
from tapeline.watch.webhook import Answer, Webhook, signature
from tests.commands import wait_for
from tests.receiver import KEY, SECRET, Receiver, receiving

BODY = b'{"type":"price","data":{"rule":"AAPL close > 280"}}'


def test_a_signature_is_what_openssl_makes_of_id_time_and_body():
    """By `printf '%s' "$id.$time.$body" | openssl dgst -sha256 -mac HMAC … -binary | base64`."""
    found = signature(KEY, "evt_0123456789abcdef0123456789abcdef", 1_795_692_900, BODY)
    assert found == "v1,DFZRkenDBnAFjeeC7g3iKOK/iu7+lj8FTyao1zfultI="


@pytest.mark.parametrize(
    ("failed", "shortest_s", "longest_s"),
    [(1, 0.5, 1), (2, 1, 2), (3, 2, 4), (9, 128, 256), (10, 150, 300), (10_000, 150, 300)],
)
def test_the_pause_doubles_up_to_five_minutes_and_half_of_it_is_chance(
    failed, shortest_s, longest_s
):
    assert (pause_s(failed, 0.0), pause_s(failed, 1.0)) == (shortest_s, longest_s)


def hook(receiver: Receiver, timeout_s: float = 0.3) -> Webhook:
    return Webhook(receiver.url, SECRET, timeout_s)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_success_takes_an_event(status):
    with receiving() as receiver:
        receiver.mode = status
        assert hook(receiver).send("evt_1", BODY) == Answer()
    assert [event["id"] for event in receiver.taken] == ["evt_1"]
    assert receiver.wrong == []


@pytest.mark.parametrize(
    ("mode", "headers", "answer"),
    [
        (500, {}, Answer("status 500 Internal Server Error")),
        (400, {}, Answer("status 400 Bad Request")),
        (599, {}, Answer("status 599")),
        (429, {"Retry-After": "7"}, Answer("status 429 Too Many Requests", 7.0)),
        (503, {"Retry-After": "soon"}, Answer("status 503 Service Unavailable")),
        (503, {"Retry-After": "999999"}, Answer("status 503 Service Unavailable", 3600.0)),
        (302, {"Location": "/elsewhere"}, Answer("status 302 Found")),
        (307, {"Location": "/elsewhere"}, Answer("status 307 Temporary Redirect")),
        ("hang", {}, Answer("no answer in time")),
    ],
)
def test_anything_else_does_not_and_says_why(mode, headers, answer):
    with receiving() as receiver:
        receiver.mode, receiver.headers = mode, headers
        assert hook(receiver).send("evt_1", BODY) == answer
    assert receiver.taken == []


def test_a_receiver_that_is_not_there_does_not_and_its_address_is_not_repeated():
    receiver = Receiver()
    webhook = Webhook(f"{receiver.url}?token=hidden", SECRET, 1.0)
    answer = webhook.send("evt_1", BODY)
    assert answer == Answer("Connection refused")
    assert webhook.name == "http://127.0.0.1"


def test_a_host_that_is_no_name_is_a_failed_delivery_and_ends_no_watch(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    answer = Webhook("http://a..example/x", SECRET, 1.0).send("evt_1", BODY)
    assert answer == Answer("not a valid host name")


@pytest.mark.parametrize("host", ["a..test", ".test", f"{'x' * 64}.test"])
def test_a_host_that_is_no_name_is_refused_at_the_start(host):
    with pytest.raises(ValueError, match="not a valid address") as raised:
        webhook_url(f"https://{host}/token")
    assert host not in str(raised.value)
    assert webhook_url("https://a.example./x") == "https://a.example./x"
    with pytest.raises(ValueError, match="is not a valid address of an API"):
        Api(f"http://{host}")


@contextmanager
def delivering(outbox: Outbox, receiver: Receiver):
    """Deliver for a while, with the shortest pauses."""
    stop = threading.Event()
    thread = threading.Thread(target=deliver, args=(outbox, hook(receiver), stop, lambda: 0.0))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        outbox.close()
        thread.join(10)
        assert not thread.is_alive()


def events(many: int) -> list[Event]:
    return [Event(f"evt_{number}", "5m", number, BODY) for number in range(many)]


def test_events_come_in_their_order_and_again_until_they_are_taken(tmp_path):
    outbox = Outbox(tmp_path / "outbox.sqlite", 100)
    outbox.take(events(5))
    with receiving() as receiver, capture_logs() as logs:
        receiver.mode = 500
        with delivering(outbox, receiver):
            wait_for(lambda: sum(receiver.attempts.values()) >= 2, 10)
            receiver.mode = 200
            wait_for(lambda: not outbox.pending, 10)
    assert receiver.ids == {f"evt_{number}" for number in range(5)}
    assert [event["id"] for event in receiver.taken[:3]] == ["evt_2", "evt_3", "evt_4"]
    failures = [entry for entry in logs if entry["event"] == "not_delivered"]
    assert [(f["event_id"], f["again_in_s"], f["waiting"]) for f in failures[:2]] == [
        ("evt_0", 0.5, 5),
        ("evt_1", 1.0, 5),
    ]
    assert logs[-1]["event"] == "delivering_again"


def test_one_that_is_always_refused_keeps_no_other_back(tmp_path):
    outbox = Outbox(tmp_path / "outbox.sqlite", 100)
    outbox.take(events(4))
    with receiving() as receiver:
        real = receiver.take
        receiver.take = lambda headers, body: (
            400 if headers["webhook-id"] == "evt_1" else real(headers, body)
        )
        with delivering(outbox, receiver):
            wait_for(lambda: outbox.pending == 1, 10)
    assert receiver.ids == {"evt_0", "evt_2", "evt_3"}


def test_what_waits_is_there_after_a_restart_and_what_was_told_is_not_told_again(tmp_path):
    file = tmp_path / "outbox.sqlite"
    first = Outbox(file, 100)
    assert first.take(events(3)) == 3
    first.delivered(first.next())
    again = Outbox(file, 100)
    assert again.pending == 2
    assert again.take(events(4)) == 1
    with receiving() as receiver, delivering(again, receiver):
        wait_for(lambda: not again.pending, 10)
    assert [event["id"] for event in receiver.taken] == ["evt_1", "evt_2", "evt_3"]


def test_a_stop_waits_for_no_long_pause(tmp_path):
    outbox = Outbox(tmp_path / "outbox.sqlite", 100)
    outbox.take(events(1))
    with receiving() as receiver:
        receiver.mode, receiver.headers = 503, {"Retry-After": "600"}
        began = time.monotonic()
        with delivering(outbox, receiver):
            wait_for(lambda: receiver.attempts, 10)
    assert time.monotonic() - began < 5
    assert outbox.pending == 1
