"""A rebuild from its settings to its end: what is read, in which order, how far it got."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum

import structlog
from pyspark.sql import SparkSession
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from tapeline.consumer.failures import failures_explained
from tapeline.consumer.session import build_session, end_with_spark
from tapeline.consumer.sinks import CassandraSink
from tapeline.finalize.bar_rules import BarRules
from tapeline.finalize.bar_writer import BarWriter
from tapeline.finalize.counted_empty import joined_late
from tapeline.finalize.gone_topics import GoneTopics
from tapeline.kafka.feed_view import FeedView
from tapeline.kafka.topics import living_topics, topic_admin, topic_id_of
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.keyspace import open_keyspace
from tapeline.local.lock import only_one
from tapeline.model.bar import Bar, WindowKey
from tapeline.model.conditions import SHIPPED
from tapeline.model.coverage import Coverage
from tapeline.model.errors import UsageError
from tapeline.model.texts import counted
from tapeline.model.times import EPOCH
from tapeline.program.settings import Settings
from tapeline.rebuild.gold import GoldRebuild
from tapeline.rebuild.plan import Plan
from tapeline.rebuild.progress import Progress, ProgressFile, Tally
from tapeline.rebuild.selection import Selection
from tapeline.rebuild.silver import SilverRebuild, windows_begun_to_expire, windows_in_bronze
from tapeline.storage.bar_rows import StoredBar
from tapeline.storage.cassandra_client import CassandraClient

log = structlog.get_logger()

IsComplete = Callable[[Bar, StoredBar | None], bool | None]


class RebuildLayer(str, Enum):
    """What is rebuilt from the layer below it."""

    SILVER = "silver"
    GOLD = "gold"


@dataclass(frozen=True, slots=True)
class RebuildOptions:
    """What to rebuild.

    `any_policy` says that the policy was named, so that bars of another one are to be replaced.
    """

    layer: RebuildLayer
    selection: Selection
    allow_shrink: bool
    restart: bool
    any_policy: bool

    @property
    def makes_every_bar(self) -> bool:
        """Whether all bars are made again, and not those of some windows alone."""
        return self.layer is RebuildLayer.GOLD and self.selection.is_everything

    @property
    def name(self) -> str:
        """A name for files, the same for the same command."""
        shrink = "-shrink" if self.allow_shrink else ""
        return f"{self.layer.value}-{self.selection.name}{shrink}"


def run_rebuild(
    settings: Settings, endpoints: Endpoints, options: RebuildOptions, console: Console
) -> Progress:
    """Rebuild a layer, and after silver the bars of its windows; return what was done.

    Raises:
        UsageError: another rebuild works on the keyspace, its bars have another policy, or it
            has nothing of a symbol.
        SchemaError: keyspace or topic are missing.
        StreamError: Spark, Kafka or Cassandra failed.
    """
    home, keyspace = Home(settings.home), settings.cassandra.keyspace
    # What another policy has made is no progress.
    name = f"{keyspace}-{options.name}-{settings.stream.policy.name}"
    file = ProgressFile(home.rebuilds / f"{name}.json")
    with ExitStack() as stack:
        stack.enter_context(only_one(home, f"{keyspace}.rebuild"))
        client = stack.enter_context(open_keyspace(settings, endpoints))
        client.require_symbols(options.selection.symbols)
        if not options.any_policy:
            _require_policy(settings, client)
        stack.enter_context(failures_explained("rebuild"))
        is_complete = _feed_coverage(settings, endpoints, client)
        progress = _begin(file, console, restart=options.restart)
        session = build_session(settings, endpoints)
        end_with_spark(session)
        stack.callback(session.stop)
        living = living_topics(topic_admin(endpoints.bootstrap_servers, settings.kafka))
        made_final = GoneTopics(session, client, BarRules.of(settings)).finalize(
            living.keys(), _now()
        )
        if made_final:
            bars = counted(made_final, "bar")
            console.print(f"Made final: {bars} of topics that no longer exist.")
        client.write_reading_rules(settings.stream.policy)
        rebuild = Rebuild(session, client, settings, options, is_complete, file, progress, console)
        rebuild.run()
        if options.makes_every_bar:
            client.write_policy(settings.stream.policy)
    return progress


class Rebuild:
    """The two steps of one rebuild, each of which saves how far it got after every chunk."""

    def __init__(
        self,
        session: SparkSession,
        client: CassandraClient,
        settings: Settings,
        options: RebuildOptions,
        is_complete: IsComplete,
        file: ProgressFile,
        progress: Progress,
        console: Console,
    ) -> None:
        self._session = session
        self._client = client
        self._settings = settings
        self._options = options
        self._is_complete = is_complete
        self._file = file
        self._progress = progress
        self._console = console
        self._rules = BarRules.of(settings)

    def run(self) -> None:
        """Rebuild the layer; after silver the bars of the windows that it was rebuilt for."""
        windows = self._silver() if self._options.layer is RebuildLayer.SILVER else None
        self._gold(windows)
        self._file.delete()

    def _silver(self) -> set[WindowKey]:
        client, selection = self._client, self._options.selection
        alive_after = _now() - self._rules.silver_ttl if self._rules.silver_ttl else None
        spans = list(client.bronze_spans(alive_after))

        def windows() -> set[WindowKey]:
            found = (key for span in spans for key in windows_in_bronze(client, span))
            return {key for key in found if selection.covers(key)}

        refused = windows_begun_to_expire(client, spans, windows())
        self._progress.fragments = Tally()
        self._progress.fragments.add(sorted(refused))
        rebuild = SilverRebuild(
            self._session,
            CassandraSink(client),
            client,
            self._settings.cassandra,
            selection,
            refused,
        )
        total = sum(span.last_offset - span.first_offset + 1 for span in spans)
        with self._shown("messages of bronze", total, self._progress.messages) as advanced:
            rebuild.run(spans, self._progress, advanced)
        return windows() - refused

    def _gold(self, only: Collection[WindowKey] | None) -> None:
        client = self._client
        plan = Plan(self._options.selection, self._rules.silver_ttl, _now(), only)
        plan.add_states(client.all_states())
        plan.add_bars(client.stored_starts())
        if self._progress.hour is None:
            self._progress.expired.add(sorted(plan.expired()))
        hours = plan.hours()
        # Of this run, also if it goes on with an earlier one: one revision too many does no harm.
        until, since = client.final_until() or EPOCH, _now()
        writer = BarWriter(
            self._session,
            client,
            self._rules,
            is_complete=self._is_complete,
            now=_now,
            counted_empty=lambda interval, bars: joined_late(client, interval, bars, until, since),
        )
        rebuild = GoldRebuild(
            writer,
            client,
            plan,
            self._rules,
            allow_shrink=self._options.allow_shrink,
            has_new_trades=self._options.layer is RebuildLayer.SILVER,
        )
        total = sum(len(h.selected) for h in hours)
        with self._shown("five-minute windows", total, self._progress.windows) as advanced:
            rebuild.run(hours, self._progress, advanced)

    @contextmanager
    def _shown(self, what: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
        """Show a progress bar; yield what is called after each chunk."""
        bar = ProgressBar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )
        task = bar.add_task(what, total=total, completed=done)

        def advanced(count: int) -> None:
            self._file.save(self._progress)
            bar.advance(task, count)

        with bar:
            yield advanced


def _begin(file: ProgressFile, console: Console, *, restart: bool) -> Progress:
    if restart:
        file.delete()
    progress = file.load()
    if progress is None:
        return Progress(started_at=_now())
    console.print(
        f"Going on with the rebuild that began at {progress.started_at:%Y-%m-%d %H:%M} UTC; "
        "--restart starts over."
    )
    return progress


def _require_policy(settings: Settings, client: CassandraClient) -> None:
    """Refuse to change every bar because a policy was forgotten."""
    rules, keyspace = settings.stream.policy, settings.cassandra.keyspace
    policies = (bar.policy for bar in client.stored_starts() if bar.is_final)
    other = next((policy for policy in policies if policy not in {None, rules.name}), None)
    if other is not None:
        message = (
            f"Keyspace {keyspace} has bars of policy {other}: keep it with --policy "
            f"{other if other in SHIPPED else 'FILE'}, or replace it with --policy {rules.option}."
        )
        raise UsageError(message)


def _feed_coverage(settings: Settings, endpoints: Endpoints, client: CassandraClient) -> IsComplete:
    """Return what tells whether the feed covered a bar: as it is stored, else by its gaps."""
    admin = topic_admin(endpoints.bootstrap_servers, settings.kafka)
    topic_id = topic_id_of(admin, settings.kafka.topic)
    coverage = None
    if client.progress(topic_id):
        feed = FeedView(endpoints.bootstrap_servers, settings.kafka, topic_id)
        with closing(feed):
            snapshot = feed.snapshot(_now())
        coverage = Coverage(snapshot.producers, snapshot.gaps, is_readable=snapshot.is_readable)
    else:
        log.warning("topic_not_of_keyspace", topic=settings.kafka.topic)

    def is_complete(bar: Bar, stored: StoredBar | None) -> bool | None:
        if stored is not None and stored.bar.is_final:
            return stored.bar.is_complete
        if coverage is None:
            return None
        return coverage.is_complete(bar.symbol, bar.window_start, bar.window_end)

    return is_complete


def _now() -> datetime:
    return datetime.now(timezone.utc)
