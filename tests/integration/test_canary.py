"""A token that must be found nowhere, through all that can go wrong with a feed."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tapeline.local.home import Home
from tests.commands import TIMEOUT_S, start

CANARY = "canary-7f3a91c5e2d84b60"
ANSWERS = {
    "unauthorized": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nno\n",
    "refused": b"HTTP/1.1 503 Try later\r\nContent-Length: 0\r\n\r\n",
    "rubbish": b"\x00\xff rubbish \r\n\r\n",
    "half a handshake": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    "nothing": b"",
}


@contextmanager
def server(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Answer every handshake with the same bytes; yield the port and what was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(65_536))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1], asked
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def environment_of(port: int) -> dict[str, str]:
    return {
        "FINNHUB_API_KEY": CANARY,
        "TAPELINE_FINNHUB__URL": f"ws://127.0.0.1:{port}",
        "TAPELINE_LOG_LEVEL": "DEBUG",
        "PYTHONFAULTHANDLER": "1",
    }


def wait_for_requests(asked: list[bytes], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while len(asked) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def command_lines() -> str:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        found += process.info["cmdline"] or []
    return "\n".join(found)


def files_with_canary(folder: Path) -> list[Path]:
    paths = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    return [p for p in paths if CANARY.encode() in p.read_bytes()]


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("what", ANSWERS)
def test_the_token_is_in_no_output_file_metric_or_command_line(home: Home, what: str) -> None:
    """The producer is ended by an abort, whose dump of the stack is searched too."""
    with server(ANSWERS[what]) as (port, asked):
        process = start("produce", "--symbols", "A", environment=environment_of(port))
        wait_for_requests(asked, process)
        metrics = ""
        if process.poll() is None:
            ports = [
                c.laddr.port
                for c in psutil.Process(process.pid).net_connections("tcp")
                if c.status == psutil.CONN_LISTEN
            ]
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/metrics") as page:
                metrics = page.read().decode()
            assert "tapeline_producer_reconnects_total" in metrics
        commands = command_lines()
        process.send_signal(signal.SIGABRT)
        output, _ = process.communicate(timeout=TIMEOUT_S)

    assert any(CANARY.encode() in request for request in asked)  # it was really used
    if what == "unauthorized":
        assert process.returncode == 5
        sentence = output.strip().splitlines()[-1]
        assert sentence.startswith("Error: The feed refuses the token (HTTP 401)")
    else:
        assert "feed_unreachable" in output
        assert "Fatal Python error" in output
    assert CANARY not in output + metrics + commands
    assert files_with_canary(home.root) == []
