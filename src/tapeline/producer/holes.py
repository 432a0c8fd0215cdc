"""Where groups of messages are missing in what was read of a spool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tapeline.producer.found_groups import FoundGroup
from tapeline.producer.spool_file import Group


class Hole(NamedTuple):
    """Groups, by their numbers, that were damaged before they were sent.

    The others stand between receipts `after_us` and `until_us`, µs since the epoch; `after_us` is
    0 when what stood before is gone too.
    """

    first: int
    last: int
    after_us: int
    until_us: int


def holes_in(groups: Iterable[Group | FoundGroup], after: int, after_us: int) -> list[Hole]:
    """Return where groups are missing in what was read of a spool.

    Args:
        groups: what was readable, in its order.
        after: the number of the last group before.
        after_us: its receipt, µs since the epoch, 0 when it is not known.
    """
    holes = []
    for group in groups:
        if group.number > after + 1:
            holes.append(Hole(after + 1, group.number - 1, after_us, group.receipt_us))
        after, after_us = max(after, group.number), group.receipt_us
    return holes
