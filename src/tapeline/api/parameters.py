"""What requests may ask: symbols, intervals, times, cursors; what is wrong names its field."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from http import HTTPStatus
from typing import Annotated, Any, Final

import orjson
from fastapi import Depends, Path, Query
from pydantic import BeforeValidator, StringConstraints, TypeAdapter, WithJsonSchema

from tapeline.api.problems import Problem
from tapeline.model.read_interval import ReadInterval
from tapeline.model.sessions import Session
from tapeline.model.symbols import split_names
from tapeline.model.threshold import require_time
from tapeline.model.times import EPOCH, LAST_TIME, from_millis, to_millis

MOST_SYMBOLS: Final = 100
MOST_ROWS: Final = 10_000
NAME: Final = r"^[^\x00-\x1f\x7f,]{1,128}$"
_NAMES: Final = r"^[^\x00-\x1f\x7f]+$"
_NAMES_LENGTH: Final = 12_900
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?")
_DAY: Final = timedelta(days=1)
_AS_TIME: Final = TypeAdapter(datetime)


class IntervalName(str, Enum):
    """Lengths of bars; 1m only where one-minute bars are stored."""

    ONE_MINUTE = "1m"
    FIVE_MINUTES = "5m"
    TEN_MINUTES = "10m"
    QUARTER = "15m"
    HALF_HOUR = "30m"
    ONE_HOUR = "1h"
    TWO_HOURS = "2h"
    FOUR_HOURS = "4h"
    SIX_HOURS = "6h"
    TWELVE_HOURS = "12h"
    ONE_DAY = "1d"


def _time(text: object) -> datetime:
    """Read an ISO 8601 time; one without a zone is UTC."""
    if not isinstance(text, str) or not _TIME.fullmatch(text.upper()):
        message = "give a time such as 2026-11-20 or 2026-11-20T14:30:00Z"
        raise ValueError(message)
    try:
        time = _AS_TIME.validate_python(text.upper())
        time = (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        message = "there is no such time"
        raise ValueError(message) from error
    if not EPOCH <= time < LAST_TIME:
        message = "give a time from 1970 to 2099"
        raise ValueError(message)
    return time


_TIME_SCHEMA: Final[dict[str, Any]] = {
    "type": "string",
    "anyOf": [{"format": "date-time"}, {"format": "date"}],
}
Time = Annotated[datetime, BeforeValidator(_time), WithJsonSchema(_TIME_SCHEMA)]
"""A time from 1970 to 2099."""
Symbol = Annotated[
    str, Path(pattern=NAME, description="In the feed's name.", examples=["AAPL", "OANDA:EUR_USD"])
]
Limit = Annotated[
    int, Query(ge=1, le=MOST_ROWS, description="The most rows that are read and sent.")
]
Cursor = Annotated[
    str | None,
    Query(
        max_length=200,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="`next_cursor` of the page before, the other parameters being the same.",
    ),
]


def symbols_of(
    symbols: Annotated[
        list[Annotated[str, StringConstraints(pattern=_NAMES, max_length=_NAMES_LENGTH)]],
        Query(
            max_length=MOST_SYMBOLS,
            description=(
                f"1 to {MOST_SYMBOLS} names with commas between them, or the parameter repeated."
            ),
            examples=["AAPL,BINANCE:BTCUSDT"],
        ),
    ],
) -> tuple[str, ...]:
    """Read names with commas between them or in several parameters, each once."""
    names = split_names(",".join(symbols))
    if not 0 < len(names) <= MOST_SYMBOLS or any(not re.fullmatch(NAME, n) for n in names):
        detail = f"symbols: give 1 to {MOST_SYMBOLS} names with commas between them"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    return names


def interval_of(
    interval: Annotated[
        IntervalName, BeforeValidator(require_time), Query(examples=["5m", "1h", "1d"])
    ] = IntervalName.FIVE_MINUTES,
) -> ReadInterval:
    """Read the length of the bars."""
    return ReadInterval.parse(interval.value)


def interval_of_session(
    interval: Annotated[ReadInterval, Depends(interval_of)],
    session: Annotated[
        Session | None,
        Query(description="Only trades of this session; longer bars are made of those alone."),
    ] = None,
) -> ReadInterval:
    """Read the length of the bars, and the session whose trades they hold."""
    if session is None:
        return interval
    try:
        return interval.of_session(session.value)
    except ValueError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"session: {error}") from error


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """The time that a request asks for; `is_closed` when it named its end."""

    start: datetime
    end: datetime
    is_closed: bool


def span_of(
    start: Annotated[Time | None, Query(description="A day before the end by default.")] = None,
    end: Annotated[Time | None, Query(description="Not included; now by default.")] = None,
) -> TimeSpan:
    """Read a time from start to end."""
    last = end or datetime.now(timezone.utc)
    first = start or max(last - _DAY, EPOCH)
    if first > last:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "start: it lies after the end")
    return TimeSpan(first, last, is_closed=end is not None)


Symbols = Annotated[tuple[str, ...], Depends(symbols_of)]
Length = Annotated[ReadInterval, Depends(interval_of)]
LengthOfSession = Annotated[ReadInterval, Depends(interval_of_session)]
Between = Annotated[TimeSpan, Depends(span_of)]


def cursor_of(*parts: str | int) -> str:
    """Return a cursor that holds where the next page begins."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


def parts_of(cursor: str, *kinds: type) -> list[Any]:
    """Return what a cursor holds.

    Raises:
        Problem: 422, it is none of ours.
    """
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(parts, list) and [type(part) for part in parts] == list(kinds):
            return parts
    except (binascii.Error, ValueError):
        pass
    detail = "cursor: take it from next_cursor of the page before"
    raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


def time_of(ms: int) -> datetime:
    """Return the time that a cursor's milliseconds mean.

    Raises:
        Problem: 422, there is no such time.
    """
    if not 0 <= ms < to_millis(LAST_TIME):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "cursor: it holds no time")
    return from_millis(ms)
