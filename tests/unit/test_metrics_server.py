"""Metrics over HTTP: where, for how long, and what a taken port does."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from urllib.error import URLError

import pytest
from structlog.testing import capture_logs

from tapeline.local.ports import free_port
from tapeline.model.errors import UsageError
from tapeline.program.merged_metrics import MergedMetrics
from tapeline.program.metrics import FRAMES, PRODUCER_METRICS, Metrics
from tapeline.program.metrics_server import serve_metrics
from tests.commands import wait_for
from tests.page import read_page

HOST = "127.0.0.1"
AND_END = """
import sys
from tapeline.program.metrics import PRODUCER_METRICS, Metrics
from tapeline.program.metrics_server import serve_metrics
with serve_metrics(Metrics(PRODUCER_METRICS), "127.0.0.1", int(sys.argv[1])) as url:
    sys.exit(143)
"""


def test_metrics_are_served_during_the_block_and_no_longer():
    port, before = free_port(0), set(threading.enumerate())
    metrics = Metrics(PRODUCER_METRICS)
    metrics[FRAMES].inc(3)

    with capture_logs() as logs, serve_metrics(metrics, HOST, port) as url:
        assert url == f"http://127.0.0.1:{port}/metrics"
        assert read_page(url)["tapeline_producer_frames_total"] == 3
        metrics[FRAMES].inc()
        assert read_page(url)["tapeline_producer_frames_total"] == 4

    assert logs == [{"event": "metrics_served", "log_level": "info", "url": url}]
    with pytest.raises(URLError):
        read_page(url)
    wait_for(lambda: set(threading.enumerate()) <= before)


def test_of_several_parts_each_series_says_whose_it_is_and_the_process_is_there_once():
    parts = {"coinbase": Metrics(PRODUCER_METRICS), "kraken": Metrics(PRODUCER_METRICS)}
    parts["coinbase"][FRAMES].inc(3)
    parts["kraken"][FRAMES].inc(4)

    with serve_metrics(MergedMetrics("source", parts), HOST, free_port(0)) as url:
        page = read_page(str(url))

    assert page['tapeline_producer_frames_total{source="coinbase"}'] == 3
    assert page['tapeline_producer_frames_total{source="kraken"}'] == 4
    assert page['tapeline_producer_trades_total{outcome="accepted",source="kraken"}'] == 0
    assert page["tapeline_process_memory_bytes"] > 0


def test_port_0_serves_nothing():
    before = set(threading.enumerate())
    with capture_logs() as logs, serve_metrics(Metrics(PRODUCER_METRICS), HOST, 0) as url:
        assert url is None
        assert set(threading.enumerate()) <= before
    assert logs == []


def test_a_taken_port_gives_way_to_a_free_one_and_the_log_says_which():
    first, second = Metrics(PRODUCER_METRICS), Metrics(PRODUCER_METRICS)
    first[FRAMES].inc(1)
    second[FRAMES].inc(2)
    port = free_port(0)

    with serve_metrics(first, HOST, port) as wanted, capture_logs() as logs:  # noqa: SIM117
        with serve_metrics(second, HOST, port) as other:
            assert wanted is not None
            assert other is not None
            assert other != wanted
            assert read_page(wanted)["tapeline_producer_frames_total"] == 1
            assert read_page(other)["tapeline_producer_frames_total"] == 2

    (line,) = logs
    assert line == {
        "event": "metrics_served",
        "log_level": "warning",
        "url": other,
        "taken_port": port,
    }


def test_an_address_that_is_not_this_machines_says_what_to_set():
    # TEST-NET-1, which no machine has.
    serving = serve_metrics(Metrics(PRODUCER_METRICS), "192.0.2.1", 9108)
    with pytest.raises(UsageError, match=r"192\.0\.2\.1:9108 .*TAPELINE_METRICS__HOST"):
        serving.__enter__()


def test_only_the_address_asked_for_is_listened_on():
    with serve_metrics(Metrics(PRODUCER_METRICS), HOST, free_port(0)) as url:
        assert url is not None
        port = int(url.split(":")[2].split("/")[0])
        # The whole of 127.0.0.0/8 is this machine; another address of it is not served.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)


def test_a_process_that_serves_ends_when_its_work_is_done():
    command = [sys.executable, "-c", AND_END, str(free_port(0))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 143, ended.stderr
    assert "metrics_served" in ended.stdout
