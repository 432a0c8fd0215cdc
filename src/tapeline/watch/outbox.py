"""What a watch keeps on disk: events that are not delivered, and what it has told already.

One SQLite file. What is noticed, that it was, and how far the bars were read change together or
not at all, so a kill at any moment neither loses an event nor makes one twice. The file is bounded:
the events by `max_events`, what was told by the time that is read again after a restart.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Condition
from typing import Any, Final, NamedTuple

import structlog

from tapeline.model.errors import SpoolError
from tapeline.watch.events import GAPS, Event

log = structlog.get_logger()

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS rule (
    key TEXT, symbol TEXT, began_us INTEGER NOT NULL, state TEXT, PRIMARY KEY (key, symbol)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS behind (
    key TEXT, symbol TEXT, PRIMARY KEY (key, symbol)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS progress (source TEXT PRIMARY KEY, at_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (id TEXT PRIMARY KEY, source TEXT, at_us INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS told_at ON told (source, at_us);
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, body BLOB NOT NULL, attempts INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS event_next ON event (attempts, number);
"""
_WAIT_S: Final = 1.0

Key = tuple[str, str]
"""What a rule waits for, and the symbol, empty where bars are not looked at."""


class Progress(NamedTuple):
    """How far a source was read, by the time of its data, µs since the epoch.

    What was told of it before `forget_us` may be forgotten; `caught_up` are rules that were behind.
    """

    source: str
    at_us: int
    forget_us: int
    caught_up: Collection[Key] = ()


class Pending(NamedTuple):
    """An event that is not delivered yet, and how often that was tried."""

    number: int
    id: str
    body: bytes
    attempts: int


class Outbox:
    """The file, for any number of threads.

    Args:
        file: made when missing; nobody but the owner can read it.
        max_events: how many may wait to be delivered. Whoever has more waits too.

    Raises:
        SpoolError: the disk fails, here and in each method.
    """

    def __init__(self, file: Path, max_events: int) -> None:
        self._file = file
        self._max_events = max_events
        self._changed = Condition()
        self._is_closed = False
        self._is_full = False
        with self._failures():
            file.touch(mode=0o600)
            self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
            # Safe after a kill; after a power failure an earlier state, whole, from which all is
            # read and told again under the same ids.
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_TABLES)
            self._pending = int(self._one("SELECT count(*) FROM event"))

    @property
    def pending(self) -> int:
        """How many events are not delivered."""
        return self._pending

    def begin(self, keys: Iterable[Key], now_us: int) -> dict[Key, int]:
        """Forget all rules but these; return since when each is watched, µs since the epoch.

        Args:
            keys: of all rules.
            now_us: since when one is that was not watched before.
        """
        with self._writing():
            known = {(key, symbol): began for key, symbol, began in self._rules()}
            wanted = {key: known.get(key, now_us) for key in keys}
            gone, new = known.keys() - wanted.keys(), wanted.keys() - known.keys()
            self._db.executemany("DELETE FROM rule WHERE key = ? AND symbol = ?", gone)
            self._db.executemany("DELETE FROM behind WHERE key = ? AND symbol = ?", gone)
            self._db.executemany("INSERT OR IGNORE INTO behind VALUES (?, ?)", new)
            self._db.executemany(
                "INSERT OR IGNORE INTO rule (key, symbol, began_us) VALUES (?, ?, ?)",
                [(*key, began_us) for key, began_us in wanted.items()],
            )
        return wanted

    def states(self) -> dict[Key, str]:
        """Return what was last known of each rule that has a state."""
        with self._changed, self._failures():
            rows = self._db.execute("SELECT key, symbol, state FROM rule WHERE state IS NOT NULL")
            return {(key, symbol): state for key, symbol, state in rows}

    def behind(self) -> set[Key]:
        """Return the rules for which not all was read since they are watched, as far as others."""
        with self._changed, self._failures():
            return set(self._db.execute("SELECT key, symbol FROM behind"))

    def progress(self, source: str) -> int | None:
        """Return how far a source was read, by the time of its data (µs since the epoch)."""
        with self._changed, self._failures():
            found: int | None = self._one("SELECT at_us FROM progress WHERE source = ?", source)
            return found

    def take(
        self,
        events: Collection[Event],
        states: Mapping[Key, str] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Keep what was noticed, all of it or nothing; return how many events are new.

        Waits while the outbox is full, and says so: what comes meanwhile stays with the API.

        Args:
            events: those that were told before are passed over.
            states: what is known now of rules.
            progress: of the source.
        """
        self._wait_for_room(events)
        with self._writing():
            new = [event for event in events if self._is_new(event)]
            self._db.executemany(
                "INSERT INTO event (id, body, attempts) VALUES (?, ?, 0)",
                [(event.id, event.body) for event in new],
            )
            self._db.executemany(
                "UPDATE rule SET state = ? WHERE key = ? AND symbol = ?",
                [(state, *key) for key, state in (states or {}).items()],
            )
            if progress is not None:
                source, at_us, forget_us, caught_up = progress
                self._db.execute("INSERT OR REPLACE INTO progress VALUES (?, ?)", (source, at_us))
                self._db.execute(
                    "DELETE FROM told WHERE source = ? AND at_us < ?", (source, forget_us)
                )
                self._db.executemany("DELETE FROM behind WHERE key = ? AND symbol = ?", caught_up)
        with self._changed:
            self._pending += len(new)
            self._changed.notify_all()
        return len(new)

    def forget_gaps(self, but: Collection[str]) -> None:
        """Forget that gaps were told, but those of these ids."""
        with self._changed, self._failures():
            told = self._db.execute("SELECT id FROM told WHERE source = ?", (GAPS,))
            gone = {row[0] for row in told} - set(but)
        if gone:
            with self._writing():
                self._db.executemany("DELETE FROM told WHERE id = ?", [(name,) for name in gone])

    def next(self) -> Pending | None:
        """Return the event to deliver next, the one tried least and then the oldest.

        So one that is refused again and again does not keep the others back. Waits a second for
        one, and returns None when none has come.
        """
        with self._changed:
            if not self._pending and not self._is_closed:
                self._changed.wait(_WAIT_S)
            with self._failures():
                row = self._db.execute(
                    "SELECT number, id, body, attempts FROM event ORDER BY attempts, number LIMIT 1"
                ).fetchone()
        return None if row is None else Pending(*row)

    def delivered(self, event: Pending) -> None:
        """Forget an event that was delivered."""
        with self._writing():
            self._db.execute("DELETE FROM event WHERE number = ?", (event.number,))
        with self._changed:
            self._pending -= 1
            self._note_room()
            self._changed.notify_all()

    def failed(self, event: Pending) -> None:
        """Remember that an attempt has failed."""
        with self._writing():
            self._db.execute(
                "UPDATE event SET attempts = attempts + 1 WHERE number = ?", (event.number,)
            )

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _wait_for_room(self, events: Collection[Event]) -> None:
        with self._changed:
            while events and self._pending >= self._max_events and not self._is_closed:
                if not self._is_full:
                    self._is_full = True
                    log.warning(
                        "outbox_full",
                        events=self._pending,
                        hint="nothing more is read until the webhook takes some; see that it "
                        "answers, or raise TAPELINE_WATCH__MAX_EVENTS",
                    )
                self._changed.wait(_WAIT_S)

    def _note_room(self) -> None:
        """Say that it is full no more once half of it is free, not at each event that goes."""
        if self._is_full and self._pending <= self._max_events // 2:
            self._is_full = False
            log.info("outbox_has_room", events=self._pending)

    def _is_new(self, event: Event) -> bool:
        done = self._db.execute(
            "INSERT OR IGNORE INTO told VALUES (?, ?, ?)", (event.id, event.source, event.at_us)
        )
        return done.rowcount > 0

    def _rules(self) -> Iterator[tuple[str, str, int]]:
        yield from self._db.execute("SELECT key, symbol, began_us FROM rule").fetchall()

    def _one(self, query: str, *values: object) -> Any:
        row = self._db.execute(query, values).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Let the block change the file, all of it or nothing."""
        with self._changed, self._failures():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            message = (
                f"The outbox {self._file} cannot be used ({error}): make room on the disk, or see "
                "that the file may be written, and start again. Nothing is lost."
            )
            raise SpoolError(message) from error
