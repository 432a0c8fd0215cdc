"""Follow the API and tell what the rules wait for, until stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from typing import Any, Final

import structlog

from tapeline.client.api import Api
from tapeline.client.bars import READ_AGAIN, StreamedBar, stream_bars
from tapeline.client.stream import Stream
from tapeline.model.errors import ServiceUnavailableError
from tapeline.watch.delivery import Receiver, deliver
from tapeline.watch.judge import Judge
from tapeline.watch.outbox import Outbox
from tapeline.watch.rules import Rule, symbols_by_interval

log = structlog.get_logger()

_LOOK_S: Final = 5.0
_AWAY_S: Final = 60.0
_TRY_AGAIN_S: Final = 2.0
_STOP_S: Final = 3.0
_AT_ONCE: Final = 10_000
_MS: Final = timedelta(milliseconds=1)
_UNKNOWN: Final = "unknown"
AWAY: Final = "away"
"""The state of a feed of which nothing is known, since the API has not answered for a minute."""


class Watch:
    """All threads of one watch: one for each length of bars, one that looks, one that delivers.

    Args:
        rules: checked together.
        judge: of these rules.
        outbox: its own.
        receiver: who is told.
        url: of the API that is followed.
        key: of that API, if it asks for one.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        judge: Judge,
        outbox: Outbox,
        receiver: Receiver,
        url: str,
        key: str | None,
    ) -> None:
        self._symbols = symbols_by_interval(rules)
        self._judge = judge
        self._outbox = outbox
        self._receiver = receiver
        self._url = url
        self._key = key
        self._stop = Flag()
        self._failures: SimpleQueue[BaseException] = SimpleQueue()
        self._streams: dict[str, Stream[StreamedBar]] = {}

    def run(self) -> None:
        """Watch until interrupted. What is not delivered then is delivered by the next run.

        Raises:
            UsageError: the API refuses what is asked for.
            SpoolError: the outbox cannot be used any more.
        """
        works: dict[str, Callable[[], None]] = {
            "deliver": partial(deliver, self._outbox, self._receiver, self._stop),
            "look": self._look,
            **{interval: partial(self._follow, interval) for interval in self._symbols},
        }
        threads = [
            Thread(target=self._guarded, args=(work,), name=f"watch-{name}", daemon=True)
            for name, work in works.items()
        ]
        for thread in threads:
            thread.start()
        try:
            while True:
                try:
                    raise self._failures.get(timeout=1.0)
                except Empty:
                    continue
        finally:
            self._end(threads)

    def _end(self, threads: Sequence[Thread]) -> None:
        """Stop in order, but wait for no receiver that hangs."""
        self._stop.set()
        self._outbox.close()
        for stream in list(self._streams.values()):
            stream.close()
        deadline = time.monotonic() + _STOP_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        log.info("stopped", waiting=self._outbox.pending)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._failures.put(error)

    def _follow(self, interval: str) -> None:
        """Judge each change of the bars of one length."""
        while not self._stop.is_set():
            stream = stream_bars(
                self._symbols[interval],
                interval,
                self._judge.since(interval),
                url=self._url,
                key=self._key,
            )
            try:
                with stream:
                    self._streams[interval] = stream
                    for bar in stream:
                        if self._stop.is_set():
                            return
                        self._judge.bar(bar)
            except ServiceUnavailableError:  # `_look` says so
                self._stop.wait(_TRY_AGAIN_S)

    def _look(self) -> None:
        """Ask for gaps and the feed's state again and again; say when the API is away."""
        api, answered, is_away = Api(self._url, self._key), time.monotonic(), False
        while not self._stop.is_set():
            try:
                self._ask(api)
            except ServiceUnavailableError as error:
                if not is_away:
                    log.warning("api_away", detail=str(error))
                is_away = True
                if time.monotonic() - answered > _AWAY_S:
                    self._judge.feed(AWAY, str(error))
            else:
                if is_away:
                    log.info("api_back", url=self._url)
                answered, is_away = time.monotonic(), False
            self._stop.wait(_LOOK_S)

    def _ask(self, api: Api) -> None:
        if self._judge.wants_gaps:
            self._judge.gaps(gaps_since(api, self._judge.gaps_since))
        if self._judge.wants_feed:
            feed = api.get("/v1/status")["feed"]
            if feed["state"] != _UNKNOWN:
                self._judge.feed(feed["state"], feed["detail"])
        if not self._judge.wants_gaps and not self._judge.wants_feed:
            api.get("/health/ready")


def gaps_since(api: Api, since: datetime) -> list[dict[str, Any]]:
    """Return all gaps that overlap the time since then, as `/v1/gaps` has them, the newest first.

    However many there are; some may be there twice.
    """
    # The API's clock may be behind ours.
    start = min(since, datetime.now(timezone.utc) - READ_AGAIN).isoformat()
    answer = api.get("/v1/gaps", start=start, limit=_AT_ONCE)
    found: list[dict[str, Any]] = answer["gaps"]
    end = None
    while answer["is_cut"]:
        # Others may have begun with the oldest.
        oldest_end = datetime.fromisoformat(found[-1]["start"]) + _MS
        end = oldest_end if end is None else min(oldest_end, end - _MS)
        answer = api.get("/v1/gaps", start=start, end=end.isoformat(), limit=_AT_ONCE)
        found += answer["gaps"]
    return found
