"""One look at the store on behalf of all listeners: no more is asked for than can have changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Final

from tapeline.api.open_bars import Open, OpenBars
from tapeline.finalize.horizon import newest_trade
from tapeline.model.bar import Bar, Interval
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rules import ReadingRules
from tapeline.read.bars import bars_between, bars_of_trades
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.changes import BarChange

Stored = tuple[Interval, str]
"""The bars of one stored length of one symbol."""
StoredKey = tuple[Interval, str, datetime]
"""One stored bar."""
Longer = tuple[ReadInterval, str, datetime, datetime]
"""A bar that is rolled up on reading: its length, symbol, start and end."""

_FOLLOWING: Final = timedelta(days=10)
"""A bar that opens at a close of longer ago is read again by readers only."""
_AHEAD: Final = timedelta(minutes=1)
"""The feed's clock may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class PollRequest:
    """What to ask for.

    The log of final bars is read from `since` on, but for the changes in `skipped`, for what is in
    `followed`. `newest` says from which window start on stored bars are read, `joining` the same
    of longer ones. `longer` are wanted if all is finalized up to their end. `shown` says from when
    on bars of all lengths that are listened to are read, if they open at the close before them;
    `open` are the provisional ones of the live view. `asks_progress` wants to know which topics
    feed the keyspace.
    """

    followed: frozenset[Stored]
    since: datetime
    skipped: frozenset[BarChange]
    newest: Mapping[Stored, datetime]
    joining: Mapping[tuple[ReadInterval, str], datetime]
    longer: frozenset[Longer]
    shown: Mapping[tuple[ReadInterval, str], datetime]
    open: Open
    asks_progress: bool


@dataclass(slots=True)
class Seen:
    """What was found: how far the log was read and what it says, and bars.

    `longer` are bars as their trades alone give them, and `opened` are those that open at the close
    before them, as readers get them. `reading` says how bars of each policy found are read.
    `progress` maps each topic's id to the event time of its newest trade in silver, and `policy` is
    that of the bars; both only if progress was asked for.
    """

    position: datetime
    changes: Sequence[BarChange] = ()
    changed: dict[StoredKey, Bar] = field(default_factory=dict)
    newest: list[tuple[Interval, Bar]] = field(default_factory=list)
    longer: list[tuple[ReadInterval, Bar]] = field(default_factory=list)
    progress: dict[str, datetime | None] | None = None
    policy: str | None = None
    opened: list[tuple[ReadInterval, Bar]] = field(default_factory=list)
    reading: dict[str | None, ReadingRules] = field(default_factory=dict)


def poll(client: CassandraClient, wanted: PollRequest) -> Seen:
    """Ask the store; the log before the bars, so that a change is seen no later than it."""
    now = datetime.now(timezone.utc)
    seen = Seen(wanted.since)
    if wanted.asks_progress:
        seen.progress = newest_by_topic(client)
        seen.policy = client.policy_of_bars()
    if wanted.followed:
        _read_log(client, wanted, now, seen)
    starts: defaultdict[tuple[Interval, datetime], set[str]] = defaultdict(set)
    for (interval, symbol), start in wanted.newest.items():
        starts[interval, start].add(symbol)
    for (interval, start), symbols in starts.items():
        found = client.bars_of_symbols(symbols, interval, start, now + _AHEAD)
        seen.newest += [(interval, bar) for bar in found]
    names: defaultdict[Interval, set[tuple[str, datetime]]] = defaultdict(set)
    for change in seen.changes:
        names[change.interval].add((change.symbol, change.window_start))
    # Read later than the newest: what is final by now is seen final.
    for interval, keys in names.items():
        for (symbol, start), stored in client.stored_bars(interval, sorted(keys)).items():
            seen.changed[interval, symbol, start] = stored.bar
    _read_longer(client, wanted, now, seen)
    if wanted.shown and client.reads_by_rules().carry_open:
        _read_opened(client, wanted, now, seen)
    bars = [*seen.changed.values(), *(bar for _, bar in (*seen.newest, *seen.longer, *seen.opened))]
    seen.reading = {policy: client.reading_rules(policy) for policy in {b.policy for b in bars}}
    return seen


def newest_by_topic(client: CassandraClient) -> dict[str, datetime | None]:
    """Return the event time of the newest trade in silver of each topic that feeds the keyspace."""
    topics = client.progress_of_topics()
    return {topic_id: newest_trade(progress) for topic_id, progress in topics.items()}


def _read_log(client: CassandraClient, wanted: PollRequest, now: datetime, seen: Seen) -> None:
    changes = []
    for change in client.changes(wanted.since, now):
        seen.position = max(seen.position, change.logged_at)
        if (change.interval, change.symbol) in wanted.followed and change not in wanted.skipped:
            changes.append(change)
    seen.changes = changes


def _read_longer(client: CassandraClient, wanted: PollRequest, now: datetime, seen: Seen) -> None:
    for (length, symbol), start in wanted.joining.items():
        bars = bars_of_trades(client, symbol, length, start, now + _AHEAD)
        seen.longer += [(length, bar) for bar in bars]
    if not wanted.longer:
        return
    final_until = client.final_until()
    for length, symbol, start, end in wanted.longer:
        if final_until is not None and end <= final_until:
            bars = bars_of_trades(client, symbol, length, start, end)
            seen.longer += [(length, bar) for bar in bars]


def _read_opened(client: CassandraClient, wanted: PollRequest, now: datetime, seen: Seen) -> None:
    """Read bars that open at the close before them: the newest, and those after a changed one."""
    read = OpenBars(client, wanted.open).read
    for (length, symbol), since in wanted.shown.items():
        starts = {s for n, name, s, _ in wanted.longer if (n, name) == (length, symbol)}
        if length.is_stored:
            changed = (key for key in seen.changed if key[:2] == (length.stored, symbol))
            starts |= {start for _, _, start in changed}
        bars: list[Bar] = []
        for start in sorted(s for s in starts if s < since):
            bars += _up_to_the_next_close(client, symbol, length, start)
        bars += bars_between(client, symbol, length, since, now + _AHEAD, read)
        seen.opened += [(length, b) for b in bars if client.reading_rules(b.policy).carry_open]


def _up_to_the_next_close(
    client: CassandraClient, symbol: str, length: ReadInterval, start: datetime
) -> Iterator[Bar]:
    """Yield a bar and those that open at its close."""
    span = start, start + _FOLLOWING
    of_trades = bars_of_trades(client, symbol, length, *span)
    for number, (plain, bar) in enumerate(
        zip(of_trades, bars_between(client, symbol, length, *span), strict=False)
    ):
        yield bar
        if number and plain.close is not None:
            return
