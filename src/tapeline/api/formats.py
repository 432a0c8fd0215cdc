"""One answer as JSON, CSV or Arrow, whichever the request accepts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
from fastapi import Request, Response

from tapeline.bar import Bar
from tapeline.bars import bars_table

ARROW: Final = "application/vnd.apache.arrow.stream"
CSV: Final = "text/csv"
JSON: Final = "application/json"


def negotiated(request: Request, content: Any, bars: Sequence[Bar], cache: str) -> Response:
    """Return `content` as JSON, or the bars alone as CSV or Arrow."""
    accept = request.headers.get("accept", JSON)
    headers = {"Cache-Control": cache, "Vary": "Accept"}
    if ARROW in accept:
        return Response(_arrow(bars_table(bars, exact=False)), headers=headers, media_type=ARROW)
    if CSV in accept:
        return Response(_csv(bars_table(bars, exact=False)), headers=headers, media_type=CSV)
    return Response(orjson.dumps(content), headers=headers, media_type=JSON)


def _arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _csv(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    options = pacsv.WriteOptions(quoting_header="none", quoting_style="needed")
    pacsv.write_csv(table, sink, options)
    return sink.getvalue()
