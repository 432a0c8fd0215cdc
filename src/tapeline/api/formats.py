"""One answer as JSON, CSV or Arrow, whichever the request accepts, with its cache headers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final

import orjson
import pyarrow as pa
import xxhash
from fastapi import Request, Response

from tapeline.api.problems import Problem
from tapeline.model.times import iso

JSON: Final = "application/json"
CSV: Final = "text/csv"
ARROW: Final = "application/vnd.apache.arrow.stream"
_KINDS: Final = (JSON, CSV, ARROW)

MAY_CHANGE: Final = "no-cache"
IS_FINAL: Final = "public, max-age=3600"

Rows = Sequence[Mapping[str, Any]]


def accepted(request: Request) -> str:
    """Return the media type that the request likes best of those that we make.

    Raises:
        Problem: 406, it accepts none of them.
    """
    best, best_weight = "", 0.0
    for part in request.headers.get("accept", "*/*").split(","):
        name, *parameters = (text.strip().lower() for text in part.split(";"))
        weight = next((_weight(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
        kind = next((k for k in _KINDS if name in {k, f"{k.split('/')[0]}/*", "*/*"}), None)
        if kind is not None and weight > best_weight:
            best, best_weight = kind, weight
    if not best:
        raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"accept: give one of {', '.join(_KINDS)}")
    return best


def answer(
    request: Request, content: Mapping[str, Any], rows: Rows, schema: pa.Schema, cache: str
) -> Response:
    """Return `content` as JSON, or its rows alone as CSV or Arrow with the columns of `schema`.

    CSV and Arrow tell the next page's cursor in the header `X-Next-Cursor`.
    """
    kind = accepted(request)
    if kind == JSON:
        body = to_json(content)
    elif kind == CSV:
        body = _csv(rows, schema.names)
    else:
        body = _arrow(rows, schema)
    headers = {
        "Cache-Control": cache,
        "Vary": "Accept",
        "ETag": f'"{xxhash.xxh3_128_hexdigest(body)}"',
    }
    if kind != JSON and content.get("next_cursor"):
        headers["X-Next-Cursor"] = content["next_cursor"]
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, headers=headers, media_type=kind)


def to_json(content: object) -> bytes:
    """Encode with times in UTC and amounts as doubles."""
    return orjson.dumps(content, default=_plain, option=orjson.OPT_UTC_Z)


def _plain(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


def _arrow(rows: Rows, schema: pa.Schema) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist(list(rows), schema=schema))
    return sink.getvalue()


def _csv(rows: Rows, names: Sequence[str]) -> bytes:
    sink = io.StringIO()
    lines = csv.writer(sink, lineterminator="\n")
    lines.writerow(names)
    lines.writerows([_text(row[name]) for name in names] for row in rows)
    return sink.getvalue().encode()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return iso(value, "microseconds")
    if isinstance(value, Decimal):
        # All its digits: to normalize it would round it to 28.
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return "|".join(value) if isinstance(value, list) else str(value)
