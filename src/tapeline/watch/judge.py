"""Judge what comes by the rules, and keep what is to be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from tapeline.client.bars import READ_AGAIN, StreamedBar
from tapeline.model.read_interval import ReadInterval
from tapeline.model.times import floor_to, from_micros, to_micros
from tapeline.watch.events import Event, bar_event, feed_event, gap_event
from tapeline.watch.outbox import Key, Outbox, Progress
from tapeline.watch.rules import Kind, Rule

SILENT: Final = "symbol_silent"
"""The kind of a gap that one symbol has while others have trades."""
_GOOD: Final = frozenset({"live", "ended"})


class Judge:
    """The rules, and how each stands; the outbox keeps both through restarts.

    Bars of one interval come from one thread, gaps and the feed's state from another.

    Args:
        rules: checked together.
        outbox: takes what is to be told.
        since: of rules that were not watched before: bars of windows that begin before the one
            that holds this time, and gaps that end before it, are not told.
    """

    def __init__(self, rules: Sequence[Rule], outbox: Outbox, since: datetime) -> None:
        self._outbox = outbox
        keys = [key for rule in rules for key in rule.keys]
        self._began = outbox.begin(keys, to_micros(since))
        self._states = outbox.states()
        self._of_bars: dict[tuple[str, str], list[Rule]] = {}
        self._others = [rule for rule in rules if not rule.kind.is_of_bars]
        for rule in rules:
            for symbol in rule.symbols if rule.interval else ():
                self._of_bars.setdefault((str(rule.interval), symbol), []).append(rule)
        intervals = {interval for interval, _ in self._of_bars}
        # Bars that are read again lead no further back than the newest one did.
        self._newest_us = {interval: outbox.progress(interval) or 0 for interval in intervals}
        behind = outbox.behind()
        self._behind = {
            interval: behind.intersection(self._keys_of(interval)) for interval in intervals
        }
        self._first: dict[Key, datetime] = {}
        for interval in intervals:
            self.since(interval)

    @property
    def wants_gaps(self) -> bool:
        """Whether a rule waits for gaps or silent symbols."""
        return any(rule.kind in {Kind.GAP, Kind.SILENT} for rule in self._others)

    @property
    def wants_feed(self) -> bool:
        """Whether a rule waits for the feed's state."""
        return any(rule.kind is Kind.FEED for rule in self._others)

    @property
    def gaps_since(self) -> datetime:
        """The time from which gaps are told, of the rule that was watched first."""
        return min(from_micros(self._began[rule.keys[0]]) for rule in self._others)

    def since(self, interval: str) -> datetime:
        """Return the window from which bars of a length have to be read, again after a restart.

        A rule that is new may begin earlier than the others; those pass over what they had then.
        """
        length = ReadInterval.parse(interval).duration
        newest_us, again_us = self._outbox.progress(interval), _micros(_read_again(length))
        keys = self._keys_of(interval)
        for key in keys:
            first_us = self._began[key]
            if newest_us is not None and key not in self._behind[interval]:
                first_us = max(first_us, newest_us - again_us)
            self._first[key] = floor_to(length, from_micros(first_us))
        return min(self._first[key] for key in keys)

    def _keys_of(self, interval: str) -> list[Key]:
        return [
            (rule.key, symbol)
            for (name, symbol), rules in self._of_bars.items()
            if name == interval
            for rule in rules
        ]

    def bar(self, bar: StreamedBar) -> None:
        """Judge one state of a bar."""
        noticed = datetime.now(timezone.utc)
        length = bar.window_end - bar.window_start
        events: list[Event] = []
        states: dict[Key, str] = {}
        for rule in self._of_bars.get((bar.interval, bar.symbol), ()):
            key = rule.key, bar.symbol
            if bar.window_start < self._first[key]:
                continue
            if rule.kind is Kind.FINAL:
                is_told = bar.is_final and (not rule.comparison or rule.comparison.holds(bar))
            else:
                is_told = self._begins_to_hold(rule, bar, states)
            if is_told:
                events.append(bar_event(rule, bar, noticed))
        start_us = to_micros(bar.window_start)
        is_newest = start_us > self._newest_us.get(bar.interval, 0)
        if not (events or states or is_newest):
            return
        progress = None
        if is_newest:
            forget_us = start_us - _micros(_read_again(length) + length)
            # Bars are read in order of time, so none before this one is left to read.
            progress = Progress(bar.interval, start_us, forget_us, self._behind[bar.interval])
        self._outbox.take(events, states, progress)
        self._states |= states
        if is_newest:
            self._newest_us[bar.interval] = start_us
            self._behind[bar.interval] = set()

    def _begins_to_hold(self, rule: Rule, bar: StreamedBar, states: dict[Key, str]) -> bool:
        """Return whether a comparison holds that did not before, and note how it stands.

        Bars before the newest window that was looked at say nothing of now.
        """
        key = rule.key, bar.symbol
        window, _, before = self._states.get(key, "-1 no").partition(" ")
        start_us = to_micros(bar.window_start)
        holds = rule.comparison.holds(bar) if rule.comparison else None
        if holds is None or start_us < int(window):
            return False
        state = f"{start_us} {'yes' if holds else 'no'}"
        if state != self._states.get(key):
            states[key] = state
        return holds and before == "no"

    def gaps(self, gaps: Sequence[Mapping[str, Any]]) -> None:
        """Judge all gaps of some time, as `/v1/gaps` has them."""
        events = list(self._gap_events(gaps, datetime.now(timezone.utc)))
        self._outbox.take(events)
        self._outbox.forget_gaps(but={event.id for event in events})

    def _gap_events(self, gaps: Sequence[Mapping[str, Any]], noticed: datetime) -> Iterator[Event]:
        for rule in self._others:
            if rule.kind not in {Kind.GAP, Kind.SILENT}:
                continue
            began = from_micros(self._began[rule.keys[0]])
            for gap in reversed(gaps):  # the oldest first
                is_of_kind = (gap["kind"] == SILENT) == (rule.kind is Kind.SILENT)
                is_over = gap["end"] is not None and datetime.fromisoformat(gap["end"]) <= began
                missed = {*gap["symbols"], *gap["healed"]}
                is_wanted = not rule.symbols or not missed.isdisjoint(rule.symbols)
                if is_of_kind and is_wanted and not is_over:
                    yield gap_event(rule, dict(gap), noticed)

    def feed(self, state: str, detail: str) -> None:
        """Judge the state of the feed; one that is good is told only after one that is not."""
        noticed = datetime.now(timezone.utc)
        for rule in self._others:
            key = rule.keys[0]
            before = self._states.get(key)
            if rule.kind is not Kind.FEED or state == before:
                continue
            is_told = state not in _GOOD or (before is not None and before not in _GOOD)
            events = [feed_event(rule, state, before, detail, noticed)] if is_told else []
            self._outbox.take(events, {key: state})
            self._states[key] = state


def _read_again(length: timedelta) -> timedelta:
    return max(READ_AGAIN, 2 * length)


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)
