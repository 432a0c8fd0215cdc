"""Tasks beside one another: how they end."""

from __future__ import annotations

import asyncio

import pytest

from tapeline.program.tasks import cancel, first_end


def test_a_task_that_swallows_its_cancellation_is_cancelled_again():
    """As a wait does before Python 3.12 that is over at the same moment."""
    swallowed = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            swallowed.append(True)
        await asyncio.sleep(60)

    async def run() -> bool:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        await cancel(task)
        return task.cancelled()

    assert asyncio.run(asyncio.wait_for(run(), 10))
    assert swallowed == [True]


def test_what_has_ended_is_not_waited_for():
    async def run() -> None:
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        await cancel(task)
        await cancel()

    asyncio.run(asyncio.wait_for(run(), 10))


def test_what_fails_beside_the_work_fails_at_once_and_ends_it():
    async def fails() -> None:
        raise ValueError

    async def run() -> bool:
        work = asyncio.create_task(asyncio.sleep(60))
        with pytest.raises(ValueError):  # noqa: PT011 - it has no message
            await first_end(work, [asyncio.create_task(fails())])
        await asyncio.wait([work])
        return work.cancelled()

    assert asyncio.run(asyncio.wait_for(run(), 10))
