"""What there is, and whether it works: gaps, status, health, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from heapq import nlargest
from operator import itemgetter
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tapeline.api.bars_api import store_of
from tapeline.api.feed_watch import FeedWatch
from tapeline.api.formats import MAY_CHANGE, to_json
from tapeline.api.models import PROBLEMS, GapsOut, HealthOut, StatusOut
from tapeline.api.parameters import Limit, Time, span_of
from tapeline.finalize.horizon import newest_receipt, newest_trade
from tapeline.model.gap import Gap
from tapeline.model.times import EPOCH, from_micros
from tapeline.status.bar_counts import BarCounts, count_bars
from tapeline.status.flow import FeedState, Flow, flow_of, freshness_s, problems_of_feed
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import PartitionProgress

router = APIRouter(tags=["status"], responses={n: PROBLEMS[n] for n in (401, 429, 503)})

_WEEK: Final = timedelta(days=7)
_DAY: Final = timedelta(days=1)
_COUNTED_SYMBOLS: Final = 100
_COUNTS_KEPT: Final = timedelta(seconds=30)
_DETAILS: Final = {
    FeedState.STALE: "No producer reports: start `tapeline produce`.",
    FeedState.ENDED: "The tape has ended.",
    FeedState.DOWN: "The producer has no connection to the feed; it tries again by itself.",
    FeedState.LIVE: "The producer is connected.",
}


@router.get(
    "/v1/gaps",
    summary="When the feed was not there",
    response_model=GapsOut,
    responses={422: PROBLEMS[422]},
)
async def gaps(
    request: Request,
    start: Annotated[Time | None, Query(description="A week before the end by default.")] = None,
    end: Annotated[Time | None, Query(description="Not included; now by default.")] = None,
    limit: Limit = 1000,
) -> Response:
    """Return the gaps that overlap a time, as producers reported them, newest first."""
    last = end or datetime.now(timezone.utc)
    span = span_of(start or max(last - _WEEK, EPOCH), last)

    def query(client: CassandraClient) -> list[Gap]:
        found = client.gaps(span.start, span.end)
        return nlargest(limit + 1, found, key=lambda gap: gap.started_us)

    found = await store_of(request).read(query)
    rows = [_gap_out(gap) for gap in found[:limit]]
    return _json({"gaps": rows, "is_cut": len(found) > limit})


@router.get("/v1/status", summary="The whole pipeline at one instant", response_model=StatusOut)
async def status(request: Request) -> Response:
    """Return feed, lag, freshness, frontier and counts; it scans nothing."""
    store, app = store_of(request), request.app.state
    watch: FeedWatch = app.feed_watch
    watch.ask()
    progress, flow = await store.read(lambda client: _flow(client, watch))
    names = await store.symbols()
    now = datetime.now(timezone.utc)
    if app.counts is None or now - app.counts[0] > _COUNTS_KEPT:
        wanted = sorted(names)[:_COUNTED_SYMBOLS]
        counted = await store.read(lambda client: count_bars(client, wanted, now - _DAY, now))
        app.counts = now, counted
    bars: BarCounts = app.counts[1]
    content = {
        "time": now,
        "keyspace": store.keyspace,
        "feed": feed_out(flow, watch.failure),
        "lag_messages": None if flow is None else flow.unread,
        "freshness_s": freshness_s(progress, now),
        "newest_trade_time": newest_trade(progress),
        "frontier": None if flow is None else flow.frontier,
        "counts": {
            "messages": sum(p.committed_offset + 1 for p in progress.values()),
            "symbols": len(names),
            "bars_5m_last_day": bars.final + bars.provisional,
            "final_bars_5m_last_day": bars.final,
        },
        "listeners": len(app.live.listeners),
    }
    return _json(content)


@router.get("/health/live", summary="Whether the process runs", response_model=HealthOut)
async def is_live() -> Response:
    """Answer at once."""
    return _json({"status": "ok"})


@router.get("/health/ready", summary="Whether bars can be read", response_model=HealthOut)
async def is_ready(request: Request) -> Response:
    """Ask Cassandra; 503 when it does not answer."""
    await store_of(request).read(lambda client: client.rows("SELECT key FROM system.local").one())
    return _json({"status": "ok"})


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Return the API's own metrics."""
    body = generate_latest(request.app.state.metrics.registry)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


def _progress(client: CassandraClient, topic_id: str | None) -> Mapping[int, PartitionProgress]:
    """Return the progress of a topic; of the one that moved last, while Kafka does not say."""
    if topic_id is not None:
        return client.progress(topic_id)
    received = ((newest_receipt(p), p) for p in client.progress_of_topics().values())
    known = [(time, p) for time, p in received if time is not None]
    return max(known, key=itemgetter(0))[1] if known else {}


def _flow(
    client: CassandraClient, watch: FeedWatch
) -> tuple[Mapping[int, PartitionProgress], Flow | None]:
    """Return how far silver is, and the flow as `tapeline status` has it; None while not known."""
    feed = watch.snapshot
    progress = _progress(client, watch.topic_id)
    now = datetime.now(timezone.utc)
    return progress, None if feed is None else flow_of(feed, progress, now)


def feed_out(flow: Flow | None, failure: str) -> dict[str, Any]:
    """Return the feed as the API shows it; without a flow it is not known, for `failure`."""
    state = FeedState.UNKNOWN if flow is None else flow.state
    return {
        "state": state.value,
        "detail": failure if flow is None else _detail(flow),
        "producers": 0 if flow is None else len(flow.living),
        "pending_trades": 0 if flow is None else flow.pending,
    }


def _detail(flow: Flow) -> str:
    if not flow.producers:
        return "No producer has reported yet: start `tapeline produce`."
    if flow.state is FeedState.LIVE:
        return next(problems_of_feed(flow), _DETAILS[flow.state])
    return _DETAILS[flow.state]


def _gap_out(gap: Gap) -> dict[str, Any]:
    return {
        "start": from_micros(gap.started_us),
        "end": None if gap.ended_us is None else from_micros(gap.ended_us),
        "kind": gap.kind.value,
        "marks_bars": gap.kind.marks_bars,
        "producer": gap.producer_id,
        "symbols": list(gap.symbols),
        "healed": list(gap.healed),
    }


def _json(content: Mapping[str, Any]) -> Response:
    headers = {"Cache-Control": MAY_CHANGE}
    return Response(to_json(content), headers=headers, media_type="application/json")
