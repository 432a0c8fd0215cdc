"""`tapeline trace`: what became of one trade."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any, Final

import typer

from tapeline.cli.dead_letters import open_letters
from tapeline.cli.options import Keyspace, TableOrJson, Topic, format_option, using, write_json
from tapeline.dead_letters.letter import Letter
from tapeline.local.discovery import Endpoints
from tapeline.local.keyspace import open_keyspace
from tapeline.model.bar import state_text
from tapeline.model.texts import counted
from tapeline.model.times import as_utc, from_micros, from_millis, iso, iso_of_micros
from tapeline.program.options import LARGEST
from tapeline.program.settings import Settings, load_settings
from tapeline.trace.find import Trace, silver_trades, traces

_FORMS: Final = {
    "%Y-%m-%dT%H:%M:%S.%f": timedelta(milliseconds=1),
    "%Y-%m-%dT%H:%M:%S": timedelta(seconds=1),
    "%Y-%m-%dT%H:%M": timedelta(minutes=1),
    "%Y-%m-%d": timedelta(days=1),
}
"""How a time may be written, and how much of time it then names."""
_SOON: Final = timedelta(minutes=1)
"""What is refused comes this soon after its time, as a rule."""


def trace(
    symbol: Annotated[str, typer.Argument(help="As the feed names it.", show_default=False)],
    when: Annotated[
        str,
        typer.Argument(
            metavar="TIME",
            help="Event time, UTC: a day, minute, second or millisecond.",
            show_default=False,
        ),
    ],
    trade_id: Annotated[int | None, typer.Option("--id", help="Only the trade of this id.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=LARGEST, help="Trades to follow, the earliest first.")
    ] = 10,
    keyspace: Keyspace = None,
    topic: Topic = None,
    output_format: Annotated[TableOrJson, format_option("How to write it.")] = TableOrJson.TABLE,
) -> None:
    """Say what became of a trade: its frame, Kafka, bronze, silver and bars.

    Where silver has none of that time, it shows what was refused soon after. Exit code 1 then.

    Example: tapeline trace AAPL 2026-11-20T14:31:07.123

    Example: tapeline trace AAPL 2026-11-20 --id 4611686018427387904
    """
    start, end = moment(when)
    settings = load_settings().with_target(topic=topic, keyspace=keyspace)
    endpoints = using(settings)
    with open_keyspace(settings, endpoints) as client:
        every = silver_trades(client, symbol, start, end)
        wanted = (t for t in every if trade_id is None or t.trade_id == trade_id)
        found = list(islice(wanted, limit + 1))
        traced = list(traces(client, found[:limit]))
        letters = [] if found else refused(settings, endpoints, symbol, start, end)
        if not found and not letters:
            client.require_symbols([symbol])
    if output_format is TableOrJson.JSON:
        write_json(
            {"trades": [_row(t) for t in traced], "refused": [_letter(one) for one in letters]}
        )
    else:
        for line in _lines(traced, letters, symbol, when):
            typer.echo(line)
        if len(found) > limit:
            typer.echo("There are more trades of that time: give a finer time, --id or --limit.")
    if not found:
        raise typer.Exit(1)


def moment(text: str) -> tuple[datetime, datetime]:
    """Return the span of time that a text names: a day, a minute, a second or a millisecond.

    Raises:
        typer.BadParameter: it names none.
    """
    for form, length in _FORMS.items():
        try:
            start = as_utc(datetime.strptime(text.removesuffix("Z"), form))  # noqa: DTZ007 - UTC
        except ValueError:
            continue
        start -= timedelta(microseconds=start.microsecond % 1000)
        return start, start + length
    message = f"{text!r} is no time: give one such as 2026-11-20T14:31:07.123."
    raise typer.BadParameter(message)


def refused(
    settings: Settings, endpoints: Endpoints, symbol: str, start: datetime, end: datetime
) -> list[Letter]:
    """Return what was refused of a symbol, or could not be told to be of another, about a time."""
    with open_letters(settings, endpoints) as (_, every):
        return [
            letter
            for letter in every
            if start <= from_micros(letter.received_us) < end + _SOON
            and any(of in (symbol, None) for _, of in letter.entries())
        ]


def _lines(traced: list[Trace], letters: list[Letter], symbol: str, when: str) -> list[str]:
    if traced:
        return [line for one in traced for line in _lines_of(one)]
    lines = [f"Silver has no such trade of {symbol} at {when}."]
    for letter in letters:
        why = ", ".join(sorted({reason for reason, _ in letter.entries()}))
        lines.append(f"  refused at {iso_of_micros(letter.received_us)}: {why} ({letter.place})")
    if letters:
        lines.append("`tapeline dead-letters show` shows what they hold.")
    else:
        lines.append(
            "Nothing was refused soon after, either: it has not come (`tapeline gaps`), is on its "
            "way (`tapeline status`), or silver has lost it by its age."
        )
    return lines


def _lines_of(trace: Trace) -> list[str]:
    trade = trace.trade
    conditions = f", conditions {' '.join(trade.conditions)}" if trade.conditions else ""
    delay = _after(trade.received_at_ms, trade.event_time_ms)
    said = [
        f"{trade.symbol} {_ms(trade.event_time_ms)}, id {trade.trade_id}",
        f"  trade     {trade.volume} at {trade.price}{conditions}",
        f"  received  {_ms(trade.received_at_ms)} from {trade.source}, {delay} after it was made",
    ]
    said += [
        f"  Kafka     {copy.topic_id}/{copy.kafka_partition}/{copy.kafka_offset}, "
        f"{_ms(copy.kafka_timestamp_ms)}, "
        f"{_after(copy.kafka_timestamp_ms, trade.received_at_ms)} after its receipt"
        for copy in trace.copies
    ]
    said.append(f"  bronze    has {len(trace.copies) or 'none'} of its messages")
    said.append(f"  silver    has it, rank {trade.sequence} in its millisecond")
    for interval, bar in trace.bars:
        state = state_text(bar.revision, is_final=bar.is_final)
        written = f", written {iso(bar.updated_at)}" if bar.updated_at else ""
        reason = f" ({bar.reason})" if bar.reason else ""
        said.append(
            f"  {interval.value} bar    of {iso(bar.window_start)}: {state}{reason}, "
            f"{counted(bar.trade_count, 'trade')}, close {bar.close}{written}"
        )
    if not trace.bars:
        said.append("  bars      none yet")
    elif trace.is_due:
        said.append("  bars      have trades of the window still to be finalized")
    return said


def _ms(instant_ms: int) -> str:
    return iso(from_millis(instant_ms))


def _after(later_ms: int, earlier_ms: int) -> str:
    return f"{(later_ms - earlier_ms) / 1000:,.3f} s"


def _row(trace: Trace) -> dict[str, Any]:
    trade = trace.trade
    return {
        "symbol": trade.symbol,
        "event_time": from_millis(trade.event_time_ms),
        "trade_id": trade.trade_id,
        "price": trade.price,
        "volume": trade.volume,
        "conditions": list(trade.conditions),
        "sequence": trade.sequence,
        "source": trade.source,
        "received_at": from_millis(trade.received_at_ms),
        "bronze": [
            {
                "place": f"{copy.topic_id}/{copy.kafka_partition}/{copy.kafka_offset}",
                "kafka_timestamp": from_millis(copy.kafka_timestamp_ms),
                "received_at": from_micros(copy.received_at_us),
            }
            for copy in trace.copies
        ],
        "bars": [
            {
                "interval": interval.value,
                "window_start": bar.window_start,
                "state": state_text(bar.revision, is_final=bar.is_final),
                "revision": bar.revision,
                "reason": bar.reason,
                "trade_count": bar.trade_count,
                "close": bar.close,
                "updated_at": bar.updated_at,
            }
            for interval, bar in trace.bars
        ],
        "is_due": trace.is_due,
    }


def _letter(letter: Letter) -> dict[str, Any]:
    return {
        "place": letter.place,
        "received_at": iso_of_micros(letter.received_us),
        "reasons": sorted({reason for reason, _ in letter.entries()}),
    }
