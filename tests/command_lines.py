"""What any user of the machine can read of its processes, while something runs."""

from __future__ import annotations

import contextlib
import threading

import psutil

from tests.commands import DRIVER


class CommandLines:
    """Every command line and environment of Java that was seen while something ran."""

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> CommandLines:  # noqa: PYI034 - Python 3.10 has no Self
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.3):
            for process in psutil.process_iter(["cmdline"]):
                line = "\0".join(process.info["cmdline"] or ())
                self.lines.add(line)
                if DRIVER in line:
                    with contextlib.suppress(psutil.Error):
                        self.lines.add(f"{process.environ()}")
