"""Close a connection on which nothing comes, though somebody waits for it."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode


class SilenceWatch:
    """One timer for all messages of a connection; close it when a wait has been too long.

    `asyncio.wait_for` around each message costs a task apiece, and on Python 3.11 it
    swallows a cancellation that meets a message. Here nothing but the connection's end reaches
    the one who waits.

    Args:
        socket: the connection.
        timeout_s: the longest wait.
    """

    def __init__(self, socket: ClientConnection, timeout_s: float) -> None:
        self._socket = socket
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting_since_s: float | None = None
        self._timer: asyncio.Handle | None = None
        self._closing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the timer."""
        self._timer = self._loop.call_later(self._timeout_s, self._look)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    async def receive(self) -> bytes | str:
        """Return the next message; one that still comes while the connection closes counts.

        Raises:
            TimeoutError: none came in time, and the connection is closed for it.
            ConnectionClosed: the connection is closed for another reason.
        """
        self._waiting_since_s = self._loop.time()
        try:
            data: bytes | str = await self._socket.recv()
        except ConnectionClosed:
            if self._closing is not None:
                raise TimeoutError from None
            raise
        finally:
            # One who is busy with a message does not wait, however long it takes.
            self._waiting_since_s = None
        return data

    def _look(self) -> None:
        left_s = self._left_s()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            # When this process itself stood still, a message may be here and its reader has yet
            # to run: it does so before this.
            self._timer = self._loop.call_soon(self._close)

    def _close(self) -> None:
        if self._left_s() > 0:
            self._look()
        else:
            closing = self._socket.close(CloseCode.INTERNAL_ERROR)
            self._closing = self._loop.create_task(closing)

    def _left_s(self) -> float:
        """Return how long a wait may still last, one that begins now if nobody waits."""
        now_s = self._loop.time()
        since_s = now_s if self._waiting_since_s is None else self._waiting_since_s
        return since_s + self._timeout_s - now_s
