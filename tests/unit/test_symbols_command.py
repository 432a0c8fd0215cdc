"""`tapeline symbols`: what it says where no producer runs; Kafka is stood in for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tapeline.cli import symbols as module
from tapeline.cli.symbols import Action, symbols
from tapeline.kafka.feed_view import FeedSnapshot


@pytest.fixture
def sent(monkeypatch):
    """Return the changes that are sent to a Kafka without producers."""
    sent = []
    nobody = FeedSnapshot({}, has_ended=False, producers=())
    view = SimpleNamespace(snapshot=lambda _now: nobody, close=lambda: None)
    monkeypatch.setattr(module, "topic_admin", lambda *_: None)
    monkeypatch.setattr(module, "topic_id_of", lambda *_: "id")
    monkeypatch.setattr(module, "FeedView", lambda *_: view)
    monkeypatch.setattr(
        module, "send_changes", lambda _servers, _kafka, changes: sent.extend(changes)
    )
    return sent


@pytest.mark.usefixtures("sent")
def test_where_no_producer_runs_the_topic_is_named_and_how_to_see_another(capsys):
    symbols(Action.LIST, topic="demo")
    assert capsys.readouterr().out == (
        "No producer of a live feed runs on topic demo: start one with `tapeline produce`, or look "
        "at another topic with --topic.\n"
    )


@pytest.mark.parametrize(
    ("action", "done"), [(Action.ADD, "asks for"), (Action.REMOVE, "leaves out")]
)
def test_a_change_that_no_producer_takes_is_said_to_be_kept_and_for_which_topic(
    sent, capsys, action, done
):
    symbols(action, "COINBASE:BTC-USD", topic="demo")
    assert [(change.topic, change.symbol) for change in sent] == [("demo", "COINBASE:BTC-USD")]
    said = capsys.readouterr()
    assert said.err.splitlines()[1] == (
        "No producer of coinbase runs on topic demo. The change is kept: the next one there "
        f"{done} COINBASE:BTC-USD. For another topic give --topic."
    )
    assert said.out == ""
