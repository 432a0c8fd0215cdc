"""The form of every answer, for the documentation: times are UTC, amounts are the feed's."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, Field

from tapeline.model.gap import GapKind
from tapeline.model.sessions import Session


class BarOut(BaseModel):
    """One bar over [window_start, window_end)."""

    symbol: str = Field(examples=["AAPL"])
    window_start: datetime
    window_end: datetime
    open: float | None = Field(description="Null when no trade could set prices.")
    high: float | None
    low: float | None
    close: float | None
    volume: float = Field(description="Rounded to a double here; exact in CSV and Arrow.")
    vwap: float | None
    trade_count: int
    is_final: bool = Field(description="False while more trades may come.")
    is_complete: bool | None = Field(
        description="False when the feed had a gap in it; null while provisional, or unknown."
    )
    revision: int = Field(
        description="0 while provisional or filled, 1 when first final, then upwards."
    )
    session: Session | None
    is_filled: bool = Field(description="No trade: made on request from the close before it.")


class BarsOut(BaseModel):
    """Bars of one symbol in order of time; `next_cursor` leads to those after them."""

    symbol: str
    interval: str
    bars: list[BarOut]
    next_cursor: str | None


class SeveralBarsOut(BaseModel):
    """Bars by symbol in the order asked for, then by time."""

    interval: str
    bars: list[BarOut]
    next_cursor: str | None


class LatestOut(BaseModel):
    """The newest bar of each symbol that has one."""

    interval: str
    bars: list[BarOut]


class TradeOut(BaseModel):
    """One valid trade, as silver holds it."""

    symbol: str
    event_time: datetime
    trade_id: str = Field(description="A 64-bit number; text, since JavaScript's lose digits.")
    price: float
    volume: float
    conditions: list[str] | None
    sequence: int | None = Field(description="Rank within symbol and millisecond.")
    received_at: datetime | None
    source: str | None


class TradesOut(BaseModel):
    """Trades in order of time; a page may be empty and still have a next one."""

    symbol: str
    trades: list[TradeOut]
    next_cursor: str | None


class SymbolsOut(BaseModel):
    """Every symbol that has bars; `may_change` says whether you may add and remove some."""

    symbols: list[str]
    may_change: bool


class SymbolChangeOut(BaseModel):
    """A change on its way to the producers of one source; without one the next takes it."""

    symbol: str
    source: str
    is_wanted: bool
    producers: int


class GapOut(BaseModel):
    """A time without the feed; `end` is null while it lasts, `healed` what was fetched since."""

    start: datetime
    end: datetime | None
    kind: GapKind
    marks_bars: bool
    producer: str
    symbols: list[str]
    healed: list[str]


class GapsOut(BaseModel):
    """Gaps that overlap a time, as producers reported them, newest first."""

    gaps: list[GapOut]
    is_cut: bool = Field(description="There are more, older ones.")


class FeedOut(BaseModel):
    """What the producers say: `live`, `stale` (no report lately), `ended`, `down`, `unknown`."""

    state: str
    detail: str
    producers: int = Field(description="Those that have reported within 30 s.")
    pending_trades: int


class CountsOut(BaseModel):
    """How much there is: of bronze, and of gold over the last day."""

    messages: int = Field(description="Messages of the topic that are in bronze and silver.")
    symbols: int
    bars_5m_last_day: int
    final_bars_5m_last_day: int


class StatusOut(BaseModel):
    """The whole pipeline at one instant."""

    time: datetime
    keyspace: str
    feed: FeedOut
    lag_messages: int | None = Field(description="In Kafka and not in silver; null: not known.")
    freshness_s: float | None = Field(
        description="Seconds since Kafka received the newest trade that is in silver."
    )
    newest_trade_time: datetime | None
    frontier: datetime | None = Field(
        description="Event time up to which all of the topic is in silver; null: not known."
    )
    counts: CountsOut
    listeners: int


class HealthOut(BaseModel):
    """It works."""

    status: str = Field(examples=["ok"])


class ProblemOut(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


def _problem(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemOut"}
    return {"description": text, "content": {"application/problem+json": {"schema": schema}}}


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    401: _problem("The API asks for a key, and the request has none that it knows."),
    422: _problem("A parameter is wrong; the detail begins with its name."),
    429: _problem("There are too many requests, or streams, from one client."),
    503: _problem("Cassandra does not answer, or not in time."),
}
"""What every read may answer instead."""
FORBIDDEN: Final[dict[int | str, dict[str, Any]]] = {403: _problem("You may not change symbols.")}
UNKNOWN: Final[dict[int | str, dict[str, Any]]] = {404: _problem("There is no such symbol.")}


def tables(model: type[BaseModel], example: str) -> dict[int | str, dict[str, Any]]:
    """Describe an answer that comes as JSON, CSV or Arrow."""
    return {
        200: {
            "model": model,
            "description": "JSON, CSV or Arrow, by the Accept header.",
            "content": {
                "text/csv": {"schema": {"type": "string"}, "example": example},
                "application/vnd.apache.arrow.stream": {
                    "schema": {"type": "string", "format": "binary"}
                },
            },
        },
        304: {"description": "Nothing has changed since the ETag in If-None-Match."},
        406: _problem("None of the media types in Accept can be made."),
    }
