"""Properties on any input; with `FUZZ_SECONDS` set they go on with fresh examples for so long."""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Final, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

SECONDS: Final = float(os.environ.get("FUZZ_SECONDS", "0"))
"""Read before the fixtures, which take settings out of the environment."""
_LONGEST_EXAMPLE_S: Final = 5
_HANGS_S: Final = 60
_INSERTED: Final = (
    *(b"\x00", b"\xff", b'"', b"[", b"}", b",", b"\n", b"-", b"|", b"1e999", b"nan"),
    b"\xff" * 9 + b"\x01",
)
T = TypeVar("T")


def hold(
    check: Callable[[T], object],
    examples: SearchStrategy[T],
    of_seed: Callable[[int], T],
    most: int = 300,
) -> None:
    """Check a property on `most` examples and ten times as many of seeds, until the time is over.

    While that lasts, an example that takes 5 s fails, and one that hangs ends the run.
    """
    count = 0

    def checked(example: T) -> None:
        nonlocal count
        count += 1
        if SECONDS:
            faulthandler.dump_traceback_later(_HANGS_S, exit=True, file=sys.__stderr__)
        began = time.monotonic()
        try:
            check(example)
        finally:
            faulthandler.cancel_dump_traceback_later()
        if SECONDS:
            assert time.monotonic() - began < _LONGEST_EXAMPLE_S

    options = settings(max_examples=most, suppress_health_check=list(HealthCheck))
    if SECONDS:
        options = settings(options, derandomize=False)
    prop = options(given(examples)(checked))
    started, first = time.monotonic(), 0
    while first == 0 or time.monotonic() - started < SECONDS:
        prop()
        for seed in range(first, first + 10 * most):
            try:
                checked(of_seed(seed))
            except BaseException:
                print(f"Seed {seed}: {of_seed(seed)!r}")  # noqa: T201
                raise
        first = random.randrange(2**63)  # noqa: S311 - mutations, not secrets
    print(f"{count:,} examples in {time.monotonic() - started:.0f} s")  # noqa: T201


def mutated(seed: int, data: bytes) -> bytes:
    """Change, drop, repeat or insert some bytes."""
    rng = random.Random(seed)  # noqa: S311 - mutations, not secrets
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[at : at + rng.randint(1, 20)]
            case 2:
                changed[at:at] = changed[at : at + rng.randint(1, 20)]
            case _:
                changed[at:at] = rng.choice(_INSERTED)
    return bytes(changed)
