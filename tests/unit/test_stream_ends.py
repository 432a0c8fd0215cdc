"""A stream ends with the loop that reads it, and never keeps a program from ending."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from tapeline.client.api import Api
from tapeline.client.stream import Stream
from tests.commands import wait_for

PROGRAM = """
import sys
from tapeline.client.api import Api
from tapeline.client.stream import Stream

def opened():
    return Stream(Api(sys.argv[1]), lambda events: iter(events.next, None))

def first():
    for item in opened():
        return item

"""


class Talker:
    """Tells whoever connects of something again and again."""

    listeners = 0
    url = ""

    def handle(self, connection: ServerConnection) -> None:
        self.listeners += 1
        with contextlib.suppress(ConnectionClosed):
            while True:
                connection.send(json.dumps({"event": "bar", "data": {}}))
                with contextlib.suppress(TimeoutError):
                    connection.recv(0.05)
        self.listeners -= 1


@contextmanager
def talking() -> Iterator[Talker]:
    talker = Talker()
    with serve(talker.handle, "127.0.0.1", 0) as server:
        talker.url = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield talker
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "ending",
    [
        "print(first())",
        "for item in opened(): break",
        "stream = opened()\nfor item in stream: break",
        "items = iter(opened())\nnext(items)",
        "for item in opened(): sys.exit()",
        "kept = [opened()]\nnext(iter(kept[0]))\nkept.append(kept)",
    ],
)
def test_a_program_ends_however_it_leaves_the_loop(ending):
    with talking() as talker:
        command = [sys.executable, "-c", PROGRAM + ending, talker.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_loop_that_is_left_hangs_up_at_once():
    with talking() as talker:
        for _ in Stream(Api(talker.url), lambda events: iter(events.next, None)):
            assert talker.listeners == 1
            break
        wait_for(lambda: talker.listeners == 0, 10)
