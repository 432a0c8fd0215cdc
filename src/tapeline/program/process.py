"""Being a process among others: end on a signal, and when the parent has gone."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

log = structlog.get_logger()

SUPERVISED: Final = "TAPELINE_SUPERVISED"
"""Set by a parent that holds the other end of our standard input."""

HELD: Final = "TAPELINE_HELD"
"""Set by a parent that says on our standard input when to go on."""

STOP_LIMIT_S: Final = 9.5
"""How long an orderly stop may take, in seconds."""

_SAME_STOP_S: Final = 1.0
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_OBJECTS_BEFORE_COLLECTION: Final = 100_000

STOPPED_EXIT_CODE: Final = 143
"""What a shell calls an end by SIGTERM."""


def is_held() -> bool:
    """Return whether a parent has started us before what we need is there."""
    return _is_supervised() and os.environ.get(HELD) == "1"


def _is_supervised() -> bool:
    return os.environ.get(SUPERVISED) == "1"


def end_with_parent() -> None:
    """Ask ourselves to stop when the parent's end of standard input closes.

    Does nothing unless a parent asked for it. This works even when the parent was killed. A parent
    that starts us before the services that we need holds us here until they are there.
    """
    if not _is_supervised():
        return
    if is_held() and not os.read(sys.stdin.fileno(), 1):
        sys.exit(STOPPED_EXIT_CODE)

    def watch() -> None:
        # Unbuffered: a lock held here while the interpreter ends would abort it.
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def end_with_child(child: subprocess.Popen[Any], grace_s: float) -> None:
    """End this process with code 1 soon after one that it cannot work without.

    For work that may be cut off anywhere. If something hangs, standard error is told where every
    thread was.

    Args:
        child: the process, which this one has started.
        grace_s: how long this one may take to end in order by itself.
    """

    def watch() -> None:
        child.wait()
        limit_end(grace_s)

    threading.Thread(target=watch, name="child-watch", daemon=True).start()


def limit_end(limit_s: float) -> None:
    """End this process with code 1 after so many seconds, and tell then where it hangs."""
    # Neither a task nor a thread: one that hangs may keep all of them from running.
    faulthandler.dump_traceback_later(limit_s, exit=True)


def end_within(limit_s: float, child: subprocess.Popen[Any] | None) -> None:
    """End this process as after a signal, though its orderly stop takes longer than it may.

    For work that may be cut off anywhere.

    Args:
        limit_s: how long an orderly stop may take.
        child: a process of ours that goes with it.
    """

    def end() -> None:
        log.warning("stopped_at_once", reason=f"an orderly stop took more than {limit_s:.1f} s")
        if child is not None:
            child.kill()
        os._exit(STOPPED_EXIT_CODE if _is_supervised() else 0)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what it started is stopped in order."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_stopped() -> None:
    """End after a signal; a supervised process tells its parent that it has not finished."""
    if _is_supervised():
        sys.exit(STOPPED_EXIT_CODE)


def run_until_signalled(work: Coroutine[Any, Any, None], limit_s: float | None = None) -> None:
    """Run a coroutine to its end, or cancel it at SIGINT or SIGTERM and wait for its clean-up.

    Args:
        work: what to run.
        limit_s: how long the clean-up may take, and with it the end of this process, which must
            follow; after that it tells on standard error where it hangs, and ends with code 1.
            A second signal ends it at once in any case.
    """

    async def supervise() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        is_cancelled = False

        def end_within_limit() -> None:
            if limit_s is not None:
                limit_end(limit_s)

        def cancel_once() -> None:
            nonlocal is_cancelled
            if is_cancelled:
                return
            is_cancelled = True
            task.cancel()
            end_within_limit()
            # One stop may come as two signals, from a parent and from its closed pipe.
            loop.call_later(_SAME_STOP_S, _let_signals_kill, loop)

        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, cancel_once)
        try:
            await task
        except asyncio.CancelledError:
            exit_stopped()
        finally:
            if not is_cancelled:
                end_within_limit()

    asyncio.run(supervise())


def _let_signals_kill(loop: asyncio.AbstractEventLoop) -> None:
    """Let the next signal end this process by the system's hand, whatever hangs in it."""
    for number in _STOP_SIGNALS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for cycles of objects less often.

    Among many small ones without any, that took two fifths of the time of an audit.
    """
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    try:
        yield
    finally:
        gc.set_threshold(*before)
