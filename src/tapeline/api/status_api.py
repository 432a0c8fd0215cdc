"""What there is, and whether it works: symbols, gaps, health."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request

from tapeline.api.bars_api import store_of, to_utc
from tapeline.producer.gaps import Gap
from tapeline.storage.gap_rows import read_gaps

router = APIRouter(tags=["status"])

_WEEK: Final = timedelta(days=7)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


@router.get("/v1/symbols", summary="Every symbol that has bars")
async def symbols(request: Request) -> dict[str, list[str]]:
    """Return the symbols of the keyspace in alphabetical order."""
    found = await store_of(request).read(lambda client: client.symbols())
    return {"symbols": sorted(found)}


@router.get("/v1/gaps", summary="When the feed was not there")
async def gaps(
    request: Request,
    start: Annotated[datetime | None, Query(description="A week ago by default.")] = None,
    end: Annotated[datetime | None, Query(description="Now by default.")] = None,
) -> dict[str, list[dict[str, Any]]]:
    """Return the gaps that overlap a time, as producers reported them."""
    last = to_utc(end) if end else datetime.now(timezone.utc)
    first = to_utc(start) if start else last - _WEEK
    found = await store_of(request).read(lambda client: list(read_gaps(client, first, last)))
    return {"gaps": [_gap_out(gap) for gap in found]}


@router.get("/health/live", summary="Whether the process runs")
async def is_live() -> dict[str, str]:
    """Answer at once."""
    return {"status": "ok"}


@router.get("/health/ready", summary="Whether bars can be read")
async def is_ready(request: Request) -> dict[str, str]:
    """Ask Cassandra; 503 when it does not answer."""
    await store_of(request).read(lambda client: client.rows("SELECT key FROM system.local").one())
    return {"status": "ok"}


def _gap_out(gap: Gap) -> dict[str, Any]:
    return {
        "start": _time(gap.started_us),
        "end": None if gap.ended_us is None else _time(gap.ended_us),
        "kind": gap.kind.value,
        "marks_bars": gap.kind.marks_bars,
        "producer": gap.producer_id,
        "symbols": list(gap.symbols),
    }


def _time(us: int) -> str:
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%SZ")
