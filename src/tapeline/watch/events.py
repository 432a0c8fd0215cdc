"""Events: what is told, and an id that is made of the data alone.

One thing that happened has one id, whenever and however often it is noticed. `body` is JSON of the
form of Standard Webhooks: `type`, `timestamp` (when it was noticed) and `data`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from tapeline.client.bars import StreamedBar
from tapeline.model.times import iso, to_micros
from tapeline.watch.rules import Kind, Rule

GAPS: Final = "gaps"
FEED: Final = "feed"
_HEX_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class Event:
    """One thing to tell.

    `source` is what it was found in: a length of bars, `GAPS` or `FEED`; `at_us` its time by the
    data, µs since the epoch.
    """

    id: str
    source: str
    at_us: int
    body: bytes


def bar_event(rule: Rule, bar: StreamedBar, noticed: datetime) -> Event:
    """Return the event of a bar that a rule waits for.

    Final bars are told one by one, with a revision each; of what a bar does while it stands only
    the first time in its window is an event.
    """
    parts = [rule.key, bar.symbol, iso(bar.window_start)]
    if rule.kind is Kind.FINAL:
        parts.append(str(bar.revision))
    data = {"bar": asdict(bar)}
    return _event(rule, parts, bar.interval, to_micros(bar.window_start), data, noticed)


def gap_event(rule: Rule, gap: dict[str, Any], noticed: datetime) -> Event:
    """Return the event of a gap as `/v1/gaps` has it: one while it lasts, one when it has ended.

    Of its symbols only those count that the rule waits for; healed ones were missed too.
    """
    wanted = set(rule.symbols)
    symbols, healed = (
        [name for name in gap[key] if not wanted or name in wanted] for key in ("symbols", "healed")
    )
    parts = [rule.key, gap["producer"], gap["kind"], gap["start"], gap["end"] or "lasts"]
    parts += sorted({*symbols, *healed})
    start_us = to_micros(datetime.fromisoformat(gap["start"]))
    data = {"gap": {**gap, "symbols": symbols, "healed": healed}}
    return _event(rule, parts, GAPS, start_us, data, noticed)


def feed_event(rule: Rule, state: str, before: str | None, detail: str, noticed: datetime) -> Event:
    """Return the event of a feed that has changed its state; its id has the time of that."""
    parts = [rule.key, state, iso(noticed)]
    data = {"feed": {"state": state, "before": before, "detail": detail}}
    return _event(rule, parts, FEED, to_micros(noticed), data, noticed)


def _event(
    rule: Rule, parts: list[str], source: str, at_us: int, data: dict[str, Any], noticed: datetime
) -> Event:
    body = {
        "type": rule.kind.value,
        "timestamp": iso(noticed),
        "data": {"rule": rule.name, **data},
    }
    encoded = orjson.dumps(body, option=orjson.OPT_UTC_Z)
    return Event(event_id(parts), source, at_us, encoded)


def event_id(parts: list[str]) -> str:
    """Return the id of what is known by these parts: half of a SHA-256 of their JSON."""
    digest = hashlib.sha256(orjson.dumps(parts)).hexdigest()
    return f"evt_{digest[:_HEX_DIGITS]}"
