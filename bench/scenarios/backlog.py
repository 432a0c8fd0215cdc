"""A backlog: N trades wait in Kafka; each contestant, in turn, brings them into its tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cassandra.cluster import Session

from bench.check import check_bronze, check_tables, count_bronze
from bench.contestants import PROGRESS, Contestant, Target, final_bars, progress_of, start
from bench.cpu import Sample, Sampler, Stretch, stretch
from bench.into_kafka import Loaded, fill
from bench.load import Load
from bench.plain.writes_only import MESSAGES
from bench.services import Process, Services, fresh_services

TOPIC: Final = "bench"
_MILLION: Final = 1_000_000
_POLL_S: Final = 0.1
_LONGEST_S: Final = 7200.0
_SHOWN_POINTS: Final = 400


@dataclass(frozen=True, slots=True)
class BacklogOptions:
    """What to run."""

    contestants: Sequence[Contestant] = (Contestant.TAPELINE, Contestant.PLAIN)
    rounds: int = 3
    stream_options: Sequence[str] = field(default_factory=tuple)
    tail: bool = False
    """Compare the last million with the third."""


def run_backlog(load: Load, options: BacklogOptions) -> Iterator[dict[str, Any]]:
    """Yield the result of each contestant in each round.

    Raises:
        WrongOutputError: a contestant's tables are wrong.
    """
    with fresh_services() as services:
        services.run("init", "--topic", TOPIC, "--keyspace", "bench_topics")
        began_s = time.monotonic()
        loaded = fill(services.bootstrap_servers, TOPIC, load)
        took_s = time.monotonic() - began_s
        print(f"{load.name}: in Kafka after {took_s:.0f} s, {len(loaded.truth.bars):,} bars")
        for round_number in range(options.rounds):
            for contestant in options.contestants:
                services.renew_cassandra()
                result = _measure(services, contestant, loaded, options)
                result["round"] = round_number
                print(_line(result))
                yield result


def _measure(
    services: Services, contestant: Contestant, loaded: Loaded, options: BacklogOptions
) -> dict[str, Any]:
    target = Target(loaded.topic, loaded.topic_id, until_end=True)
    with services.session() as session:
        process = start(services, contestant, target, options.stream_options)
        roles = {
            "job": process.pid,
            "cassandra": services.pid_of("cassandra"),
            "kafka": services.pid_of("kafka"),
        }
        progress = progress_of(session, contestant, loaded.topic_id)
        with Sampler(roles, progress) as sampler:
            wanted = loaded.truth.messages
            if contestant is Contestant.LIMIT:
                wanted = min(wanted, MESSAGES)
            _await_messages(process, sampler, wanted)
            final = final_bars(session, contestant)
            _await_end(process)
        process.require()
        if contestant is Contestant.LIMIT:
            rows = count_bronze(session, contestant.keyspace, loaded.offsets, None)
            check_bronze(rows, sampler.samples[-1].progress[PROGRESS], contestant.keyspace)
        else:
            _check(session, contestant, loaded)
    return {
        "contestant": contestant.value,
        "load": loaded.name,
        "messages": wanted,
        "bars": len(loaded.truth.bars) + len(loaded.truth.hours()),
        **_figures(sampler.samples, wanted, final, options),
        "bars_per_s_after": _rate_after(sampler.samples, wanted, loaded, final),
        "series": _series(sampler.samples),
    }


def _await_messages(process: Process, sampler: Sampler, wanted: int) -> None:
    deadline = time.monotonic() + _LONGEST_S
    while sampler.samples[-1].progress[PROGRESS] < wanted:
        process.require()
        if not process.is_running():
            sampler.look()
            if sampler.samples[-1].progress[PROGRESS] < wanted:
                message = f"it ended early: {process.failure()}"
                raise RuntimeError(message)
        if time.monotonic() > deadline:
            message = f"{process.name} did not get through the backlog"
            raise TimeoutError(message)
        time.sleep(_POLL_S)


def _await_end(process: Process) -> None:
    deadline = time.monotonic() + _LONGEST_S
    while process.is_running():
        if time.monotonic() > deadline:
            message = f"{process.name} did not make every bar final"
            raise TimeoutError(message)
        time.sleep(_POLL_S)


def _check(session: Session, contestant: Contestant, loaded: Loaded) -> None:
    topic_id = loaded.topic_id if contestant is Contestant.TAPELINE else None
    check_tables(session, contestant.keyspace, loaded.truth, loaded.offsets, topic_id)


def _figures(
    samples: list[Sample], wanted: int, final: int, options: BacklogOptions
) -> dict[str, Any]:
    first = next(s for s in samples if s.progress[PROGRESS] > 0)
    ingested = next(s for s in samples if s.progress[PROGRESS] >= wanted)
    figures = {
        "first_rows_s": first.at_s,
        "ingested_s": ingested.at_s,
        "finished_s": samples[-1].at_s,
        "final_bars_when_ingested": final,
        "warm": _costs(_warm(samples, wanted)),
        "all": _costs(Stretch(samples[0], samples[-1])),
        "memory_mb": {
            role: max(s.usage[role].rss_mb for s in samples) for role in samples[0].usage
        },
    }
    if options.tail:
        figures["third_million"] = _costs(stretch(samples, PROGRESS, 2e6, 3e6))
        figures["last_million"] = _costs(stretch(samples, PROGRESS, wanted - 1e6, wanted))
    return figures


def _warm(samples: list[Sample], wanted: int) -> Stretch:
    """Return the second million and all after it; of a short load its second half.

    A load that came in one or two batches has no such part, or a sliver, and all of it counts.
    """
    begin = min(_MILLION, wanted // 2)
    part = stretch(samples, PROGRESS, begin, wanted)
    is_whole = part.gain(PROGRESS) > (wanted - begin) / 2
    return part if is_whole else Stretch(samples[0], part.last)


def _costs(part: Stretch) -> dict[str, float]:
    """Return messages, seconds, rate, and CPU seconds a million of each role."""
    messages = part.gain(PROGRESS)
    millions = max(messages, 1) / 1e6
    return {
        "messages": messages,
        "seconds": part.seconds,
        "per_s": part.rate(PROGRESS),
        **{f"{role}_cpu_s_per_million": part.cpu_s(role) / millions for role in part.last.usage},
    }


def _rate_after(samples: list[Sample], wanted: int, loaded: Loaded, final: int) -> float | None:
    """Return the bars made final a second after the last message was stored."""
    ingested = next(s for s in samples if s.progress[PROGRESS] >= wanted)
    seconds = samples[-1].at_s - ingested.at_s
    left = len(loaded.truth.bars) + len(loaded.truth.hours()) - final
    return left / seconds if final and left > 0 else None


def _series(samples: list[Sample]) -> list[list[float]]:
    """Return time, messages and the job's CPU seconds, thinned out for a plot."""
    step = max(1, len(samples) // _SHOWN_POINTS)
    return [
        [round(s.at_s, 2), s.progress[PROGRESS], round(s.usage["job"].cpu_s, 2)]
        for s in samples[::step]
    ]


def _line(result: dict[str, Any]) -> str:
    warm = result["warm"]
    return (
        f"  round {result['round']} {result['contestant']:16} {warm['per_s']:9,.0f} trades/s; "
        f"CPU-s a million: job {warm['job_cpu_s_per_million']:.1f}, "
        f"Cassandra {warm['cassandra_cpu_s_per_million']:.1f}, "
        f"Kafka {warm['kafka_cpu_s_per_million']:.1f}; first rows {result['first_rows_s']:.1f} s, "
        f"ingested {result['ingested_s']:.1f} s, finished {result['finished_s']:.1f} s; "
        f"memory of the job {result['memory_mb']['job']:,.0f} MB"
    )
