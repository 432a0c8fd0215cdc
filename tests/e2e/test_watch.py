"""`tapeline bars --watch` on a pseudo-terminal that these tests read and resize."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tapeline.local.discovery import Endpoints
from tests.commands import TIMEOUT_S, fail, run, wait_for
from tests.hand import TAPE

INTO = "watched"
DAY = ("--from", "2024-03-15", "--to", "2024-03-16", "--keyspace", INTO)
ENTER, LEAVE, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[(?:\d+;)*3[0-7]m")


@pytest.fixture(scope="module", autouse=True)
def replayed(stack: Endpoints) -> None:
    assert stack
    run("replay", str(TAPE), "--policy", "sip", "--into", INTO)


class Terminal:
    """A command on a pseudo-terminal, and everything that it has written there."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        self.written = ""
        self.resize(80, 24)
        # Processes of the tests may have got a size of their own, which would come first.
        inherited = {k: v for k, v in os.environ.items() if k not in {"LINES", "COLUMNS"}}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tapeline", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**inherited, "TERM": "xterm-256color", **environment},
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        pieces = b""
        while True:
            try:
                piece = os.read(self._ours, 65_536)
            except OSError:  # the other end is closed
                return
            pieces += piece
            self.written = pieces.decode(errors="replace")

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def frames(self) -> list[list[str]]:
        """Return the screens drawn so far, the last one perhaps not whole, without colours."""
        plain = re.sub(r"\x1b\[[0-9;]*m", "", self.written)
        return [frame.replace("\r", "").split("\n") for frame in plain.split("\x1b[H")[1:]]

    def wait_for(self, text: str) -> None:
        wait_for(lambda: any(text in line for f in self.frames()[:-1] for line in f))

    def end(self, number: int = signal.SIGINT) -> str:
        self.process.send_signal(number)
        self.process.wait(TIMEOUT_S)
        self._reader.join(60)
        return self.written


@contextmanager
def terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    shown = Terminal(*arguments, **environment)
    try:
        yield shown
    finally:
        shown.process.kill()
        shown.process.wait()


def test_candles_are_drawn_follow_the_size_and_leave_a_clean_terminal() -> None:
    with terminal("bars", "TEST", "--watch", *DAY) as shown:
        shown.wait_for("TEST 5m  10.30  final")
        small = shown.frames()[-2]
        shown.resize(120, 40)
        shown.process.send_signal(signal.SIGWINCH)
        wait_for(lambda: any(len(frame) == 40 for frame in shown.frames()[:-1]))
        large = next(frame for frame in shown.frames() if len(frame) == 40)
        end = shown.end()

    assert shown.process.returncode == 0
    assert len(small) == 24
    assert max(map(len, small)) <= 80
    assert "╞ 10.30" in "".join(small)
    assert "╞ 10.30" in "".join(large)
    assert "│" in "".join(small)
    assert "█" in "".join(small)
    assert COLOUR.search(end)
    assert end.index(ENTER) < end.rindex(LEAVE)
    assert end.rindex(SHOW_CURSOR) > end.rindex("TEST")
    assert "Traceback" not in end


def test_several_symbols_are_a_grid_and_colour_is_not_needed() -> None:
    with terminal("bars", "TEST", "COIN:TESTUSD", "--watch", *DAY, NO_COLOR="1") as shown:
        shown.wait_for("COIN:TESTUSD 5m  50,001.25")
        shown.wait_for("TEST 5m  10.30")
        end = shown.end(signal.SIGTERM)

    assert shown.process.returncode == 0
    assert not COLOUR.search(end)
    assert LEAVE in end


def test_what_is_missing_is_said_plainly() -> None:
    with terminal("bars", "TEST", "--watch", "--keyspace", INTO) as shown:
        shown.wait_for(f"No bar in keyspace {INTO} in the time shown.")
        shown.end()
    with terminal("bars", "NOBODY", "--watch", "--keyspace", INTO) as shown:
        shown.process.wait(TIMEOUT_S)
        wait_for(lambda: "it has COIN:TESTUSD, TEST." in shown.written)
    assert shown.process.returncode == 2

    code, output = fail("bars", "TEST", "--watch")
    assert code == 2
    assert "--watch draws on a terminal" in output


def test_a_printed_table_fits_eighty_columns() -> None:
    with terminal("bars", "TEST", "COIN:TESTUSD", *DAY, NO_COLOR="1") as shown:
        shown.process.wait(TIMEOUT_S)
        wait_for(lambda: "50001.25" in shown.written)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.written).replace("\r", "").split("\n")[1:]
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
