"""A cluster of real processes, each kind of which is killed in turn while a tape is played.

The tape is SPY's day of `TAPELINE_TAPES` with its vendor's bars, or one of our own.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tapeline.local.home import Home
from tests.cluster.brokers import all_in_sync
from tests.cluster.play import BACK_S, NAME, play, tape_of
from tests.cluster.spark import WORKERS, executors
from tests.cluster.whole import whole_cluster
from tests.commands import wait_for

TURNS = int(os.environ.get("CLUSTER_TURNS", "1"))
"""How often each kind is killed."""


@pytest.mark.long
def test_every_kind_of_process_is_killed_and_the_audit_is_clean(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = tape_of(tmp_path)
    with whole_cluster(home, tmp_path) as whole, play(whole, home, tape, tmp_path) as playing:
        playing.submit()
        wait_for(lambda: playing.keep_alive() is None and playing.committed() > 0, BACK_S)
        began_s = time.monotonic()
        for turn in range(TURNS):
            broker, node, worker = whole.brokers[turn], whole.nodes[2 * turn], whole.workers[turn]
            playing.kill_and_start_again(broker, lambda: all_in_sync(whole.servers, NAME))
            playing.kill_and_start_again(node, whole.is_a_ring)
            playing.kill_and_start_again(worker, lambda: executors(whole.page) == WORKERS)
            playing.kill_the_driver(whole.hosts[1 - turn])
        killing_s, before = time.monotonic() - began_s, playing.committed()
        playing.await_end()
        end = playing.committed()
        layers = {layer["layers"]: layer for layer in playing.audit(tape.vendor)}

    with capsys.disabled():
        print("", *playing.told, sep="\n")  # noqa: T201 - for the reader
        told = f"{before} of {end} messages in silver after {killing_s:.0f} s of killing"
        print(told, *layers.values(), sep="\n")  # noqa: T201 - the same
    assert before < end
    assert layers["Kafka → bronze"]["checked"] >= tape.trades
    assert layers.get("vendor → 5m bars", {}).get("checked") == tape.exact_bars
    assert all(layer["not_yet"] == layer["not_auditable"] == 0 for layer in layers.values())
