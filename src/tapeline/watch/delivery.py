"""Bring events from the outbox to their receiver, again and again until each is taken."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from threading import Event as Flag
from typing import Final, Protocol

import structlog

from tapeline.watch.outbox import Outbox
from tapeline.watch.webhook import Answer

log = structlog.get_logger()

_FIRST_S: Final = 1.0
_LONGEST_S: Final = 300.0


class Receiver(Protocol):
    """Whoever takes events."""

    name: str

    def send(self, event_id: str, body: bytes) -> Answer:
        """Offer an event once."""
        ...


class Printed:
    """Takes events by printing each as a line of JSON; `id` comes first in it."""

    name = "standard output"

    def send(self, event_id: str, body: bytes) -> Answer:
        """Print an event."""
        sys.stdout.buffer.write(b'{"id":"%s",%s\n' % (event_id.encode(), body[1:]))
        sys.stdout.buffer.flush()
        return Answer()


def pause_s(failed: int, share: float) -> float:
    """Return how long to wait after so many failures in a row, in seconds.

    It doubles from one second to five minutes; between half of that and all of it, so that those
    who failed together do not come back together.

    Args:
        failed: one at least.
        share: from 0 to 1, by chance.
    """
    longest_s = min(_FIRST_S * 2.0 ** min(failed - 1, 30), _LONGEST_S)
    return longest_s * (0.5 + share / 2)


def deliver(
    outbox: Outbox, receiver: Receiver, stop: Flag, share: Callable[[], float] = random.random
) -> None:
    """Deliver one event after the other until told to stop.

    At least once: a stop or a kill between an answer and the note of it delivers that event again,
    under the same id. A receiver that fails is left alone for a while, with all events.
    """
    failed = 0
    while not stop.is_set():
        event = outbox.next()
        if event is None:
            continue
        answer = receiver.send(event.id, event.body)
        if answer.is_taken:
            outbox.delivered(event)
            if failed:
                log.info("delivering_again", to=receiver.name, waiting=outbox.pending)
            failed = 0
            continue
        outbox.failed(event)
        failed += 1
        wait_s = max(pause_s(failed, share()), answer.retry_after_s)
        log.warning(
            "not_delivered",
            to=receiver.name,
            event_id=event.id,
            attempts=event.attempts + 1,
            reason=answer.reason,
            waiting=outbox.pending,
            again_in_s=round(wait_s, 1),
        )
        stop.wait(wait_s)
