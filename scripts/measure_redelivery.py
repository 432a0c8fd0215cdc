"""Measure on tapes what each way of telling a redelivered frame from real twins costs.

    python scripts/measure_redelivery.py TAPE...

Each tape is cut into frames as the simulator does (100 ms of event time), and, harder, of at most
so many trades, so that one millisecond lies in several frames. Its trades are then given
identities under each rule, with no frame sent again and with a tenth of them. The truth is the
tape's own number of trades: with none sent again, each identity fewer is a real trade lost; each
identity more with some sent again is a trade that counts twice. The rules are written out here,
apart from the code that they are about.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from tapeline.simulator.tape import Tape

FRAME_MS: Final = 100
SHARE: Final = 0.1
SAME_MILLISECOND_S: Final = 2.0
REMEMBERED_S: Final = 600.0

Trade = tuple[str, int, float, float, str]
"""Symbol, event time in ms, price, size, conditions."""


@dataclass(frozen=True)
class Frame:
    """A frame's bytes, its trades, and when it arrives, in seconds of the tape."""

    data: bytes
    trades: tuple[Trade, ...]
    due_s: float


RULES: Final[dict[str, Callable[[Frame], bool]]] = {
    "none (as before)": lambda _: False,
    "equal frame": lambda _: True,
    "equal, 2 or more trades": lambda f: len(f.trades) > 1,
    "equal, 2 or more different trades": lambda f: len(set(f.trades)) > 1,
}
"""Which frames are a redelivery when they equal one of the last minutes."""

AGAIN: Final = {"at once": 0.0, "within 2 s": 2.0, "within 1 min": 60.0, "within 10 min": 600.0}
"""How much later a tenth of the frames comes again, in seconds of the tape."""


def frames_of(path: Path, most: int | None) -> Iterator[Frame]:
    """Cut a tape after each 100 ms, and then after `most` trades."""
    for whole in Tape(path, FRAME_MS).frames(0):
        step = most or len(whole.trades)
        for start in range(0, len(whole.trades), step):
            part = whole.trades[start : start + step]
            data = orjson.dumps({"data": part, "type": "trade"})
            yield Frame(data, tuple(_trade(t) for t in part), whole.due_ms / 1000)


def _trade(t: dict[str, Any]) -> Trade:
    return t["s"], t["t"], t["p"], t["v"], ",".join(t["c"] or ())


def delivered(frames: Sequence[Frame], within_s: float) -> list[Frame]:
    """Return the frames in order of arrival, a tenth of them twice."""
    rng = random.Random(1)  # noqa: S311 - a choice, not a secret
    arrivals = []
    for frame in frames:
        arrivals.append(frame)
        if rng.random() < SHARE:
            due_s = frame.due_s + rng.uniform(0, within_s)
            arrivals.append(Frame(frame.data, frame.trades, due_s))
    return sorted(arrivals, key=lambda f: f.due_s)


def identities(
    frames: Sequence[Frame], is_redelivery: Callable[[Frame], bool], same_millisecond_s: float
) -> set[tuple[Trade, int]]:
    """Return every identity that the rule gives: a trade, and which of its twins it is."""
    newest: dict[str, tuple[int, float, Counter[Trade]]] = {}
    seen: dict[bytes, float] = {}
    found: set[tuple[Trade, int]] = set()
    for frame in frames:
        now_s = frame.due_s
        if is_redelivery(frame):
            if now_s - seen.get(frame.data, -REMEMBERED_S) < REMEMBERED_S:
                continue  # its trades get the identities of the first delivery
            seen[frame.data] = now_s
        own: Counter[Trade] = Counter()
        for trade in frame.trades:
            symbol, time_ms, *_ = trade
            newest_ms, since_s, counts = newest.get(symbol, (-1, now_s, own))
            if time_ms > newest_ms:
                since_s, counts = now_s, Counter()
                newest[symbol] = (time_ms, since_s, counts)
            elif time_ms < newest_ms or now_s - since_s > same_millisecond_s:
                counts = own
            found.add((trade, counts[trade]))
            counts[trade] += 1
            if counts is not own:
                own[trade] += 1
    return found


def report(path: Path, most: int | None, same_millisecond_s: float) -> None:
    """Print a row for each rule: the trades lost, then those that count twice."""
    frames = list(frames_of(path, most))
    trades = sum(len(f.trades) for f in frames)
    different = sum(len(set(f.trades)) > 1 for f in frames)
    cut = f"{FRAME_MS} ms" + (f", at most {most} trades" if most else "")
    print(
        f"{path.name.split('.')[0]}, {cut}: {trades:,} trades in {len(frames):,} frames, of which"
    )
    print(f"{different:,} hold different trades{' lost':>10}", *(f"{a:>14}" for a in AGAIN))
    for name, rule in RULES.items():
        plain = len(identities(frames, rule, same_millisecond_s))
        twice = [
            len(identities(delivered(frames, within_s), rule, same_millisecond_s)) - plain
            for within_s in AGAIN.values()
        ]
        row = "".join(f"{figure:>15,}" for figure in twice)
        print(f"  {name:36}{trades - plain:>8,}{row}", flush=True)


def main() -> None:
    """Measure the tapes that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tapes", nargs="+", type=Path)
    parser.add_argument("--same-millisecond-s", type=float, default=SAME_MILLISECOND_S)
    parser.add_argument("--most", type=int, nargs="*", default=[10, 3, 1], help="trades a frame")
    options = parser.parse_args()
    for path in options.tapes:
        for most in (None, *options.most):
            report(path, most, options.same_millisecond_s)


if __name__ == "__main__":
    main()
