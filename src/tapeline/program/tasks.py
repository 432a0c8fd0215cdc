"""Tasks that run beside one another: the first that fails is heard at once, and all end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

_CANCEL_AGAIN_S: Final = 1.0


async def first_end(work: asyncio.Task[Any], background: Sequence[asyncio.Task[Any]]) -> None:
    """Wait for the work's end; what fails beside it fails at once."""
    try:
        await asyncio.wait([work, *background], return_when=asyncio.FIRST_COMPLETED)
        for task in (*background, work):
            if task.done():
                task.result()
    finally:
        if not work.done():
            work.cancel()


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended.

    Before Python 3.12 a wait that is over at the same moment swallows its cancellation.
    """
    while waiting := [task for task in tasks if not task.done()]:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_S)
