"""One look at the store on behalf of all listeners: no more is asked for than can have changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Final

from tapeline.bar import Bar, Interval
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.live_rows import BarChange, bars_of_symbols, read_changes

Topic = tuple[Interval, str]
"""What can be listened to: the bars of one length of one symbol."""
Key = tuple[Interval, str, datetime]
"""One bar."""

_MOST_MISSED: Final = 2_000
"""Changed bars that are sent to listeners who come back; with more they read anew."""
_LONGEST_LOG: Final = 50_000
"""Entries of the log, of whatever symbols, that are read for them."""
_WIDE: Final = timedelta(hours=3)
_AHEAD: Final = timedelta(minutes=1)
"""The feed's clock may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class Look:
    """What to ask for.

    `since` is where to read the log of final bars from, but for the changes in `skipped`;
    `missed_since` lies before it when somebody comes back and lacks more. `is_wide` asks for the
    last hours instead of the newest two windows.
    """

    topics: frozenset[Topic]
    since: datetime
    missed_since: datetime
    skipped: frozenset[BarChange]
    is_wide: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found: the newest bars, and those that the log names; how far the log was read.

    `is_cut` says that too much was missed before `since` to be read.
    """

    position: datetime
    newest: dict[Key, Bar]
    changes: Sequence[BarChange]
    changed: dict[Key, Bar]
    is_cut: bool


def look(client: CassandraClient, wanted: Look) -> Seen:
    """Ask the store; the log before the bars, so that a change is seen no later than it."""
    now = datetime.now(timezone.utc)
    position, changes, is_cut = _read_log(client, wanted, now)
    names: dict[Interval, set[str]] = defaultdict(set)
    for interval, symbol in wanted.topics:
        names[interval].add(symbol)
    newest = {
        (interval, bar.symbol, bar.window_start): bar
        for interval, symbols in names.items()
        for bar in bars_of_symbols(
            client,
            symbols,
            interval,
            oldest_of(interval, now, is_wide=wanted.is_wide),
            now + _AHEAD,
        )
    }
    changed: dict[Key, Bar] = {}
    for interval in names:
        keys = {(c.symbol, c.window_start) for c in changes if c.interval is interval}
        for (symbol, start), stored in client.stored_bars(interval, sorted(keys)).items():
            changed[interval, symbol, start] = stored.bar
    # They were read later than the newest, so they are the newer ones.
    newest.update({key: changed[key] for key in newest.keys() & changed.keys()})
    return Seen(position, newest, changes, changed, is_cut)


def _read_log(
    client: CassandraClient, wanted: Look, now: datetime
) -> tuple[datetime, list[BarChange], bool]:
    """Return how far the log was read, what it says, and whether too much was missed."""
    position, changes = wanted.since, list[BarChange]()
    for number, change in enumerate(read_changes(client, wanted.missed_since, now)):
        is_missed = change.logged_at < wanted.since
        if is_missed and (number > _LONGEST_LOG or len(changes) > _MOST_MISSED):
            position, changes, _ = _read_log(
                client, replace(wanted, missed_since=wanted.since), now
            )
            return position, changes, True
        position = max(position, change.logged_at)
        if (change.interval, change.symbol) in wanted.topics and change not in wanted.skipped:
            changes.append(change)
    return position, changes, False


def oldest_of(interval: Interval, now: datetime, *, is_wide: bool) -> datetime:
    """Return from which window start on a look reads."""
    return now - (max(_WIDE, 2 * interval.duration) if is_wide else 2 * interval.duration)
