"""`tapeline simulate`: arguments → feed → server."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer

from tapeline.local.service import LOOPBACK
from tapeline.model.errors import UsageError
from tapeline.program.logs import configure_logging
from tapeline.program.options import LARGEST, ListenHost, output_file, port_option
from tapeline.program.process import end_with_parent, run_until_signalled
from tapeline.program.settings import load_settings
from tapeline.simulator.faults import FAULT_HELP, FaultyFeed, parse_faults
from tapeline.simulator.feed import Feed
from tapeline.simulator.market import RandomMarket
from tapeline.simulator.server import SYMBOL_CAP, ServerOptions, SimulatedFinnhub
from tapeline.simulator.tape_file.form import TapeForm
from tapeline.simulator.tape_file.options import (
    CodesOption,
    ColumnsOption,
    FormatOption,
    SymbolOption,
    tape_form,
)

log = structlog.get_logger()

TOKEN_VARIABLE: Final = "TAPELINE_SIMULATOR_TOKEN"  # noqa: S105 - a name, not a token
DEFAULT_TOKEN: Final = "simulated"  # noqa: S105 - guards nothing
DEFAULT_PORT: Final = 18765
DEFAULT_FRAME_MS: Final = 100
_LONGEST_FRAME_MS: Final = 60_000
_LEAST_SPEED: Final = 0.00001
_MOST_SPEED: Final = 100_000


def simulate(
    tape: Annotated[
        Path | None, typer.Option(help="Tape to send (CSV or Parquet); else a random market.")
    ] = None,
    tape_format: FormatOption = None,
    columns: ColumnsOption = None,
    symbol: SymbolOption = None,
    conditions: CodesOption = None,
    speed: Annotated[str, typer.Option(help="'max', or how many times real time.")] = "1",
    seed: Annotated[int, typer.Option(help="Seed of the random market and of the faults.")] = 1,
    host: ListenHost = LOOPBACK,
    port: Annotated[int, port_option("Port to listen on.")] = DEFAULT_PORT,
    frame_ms: Annotated[
        int,
        typer.Option(
            min=1, max=_LONGEST_FRAME_MS, help="Milliseconds of trades that share a frame."
        ),
    ] = DEFAULT_FRAME_MS,
    symbol_cap: Annotated[
        int, typer.Option(min=1, max=LARGEST, help="Symbols that a connection may subscribe.")
    ] = SYMBOL_CAP,
    send_limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=LARGEST,
            help="Wait for no reader, as the real feed: time goes on, and one for whom more "
            "bytes wait is cut off. By default the feed waits.",
        ),
    ] = None,
    fault: Annotated[list[str] | None, typer.Option(help=FAULT_HELP)] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            callback=output_file, help="File that tells at the end what was sent, as JSON."
        ),
    ] = None,
) -> None:
    """Serve Finnhub's protocol, from a tape or a random market.

    Example: tapeline simulate --tape day.csv.gz --speed 60 --fault redeliver=0.1

    A vendor's: tapeline simulate --tape dump.csv --format kraken --symbol KRAKEN:XBT/USD
    """
    settings = load_settings()
    factor = parse_speed(speed)
    faults = parse_faults(fault or [])
    if tape is None and factor != 1.0:
        message = "--speed goes with --tape: a random market runs in real time."
        raise UsageError(message)
    if send_limit is not None and factor is None:
        message = "--send-limit needs a clock: --speed max has none."
        raise UsageError(message)
    form = tape_form(tape_format, columns, symbol, conditions)
    configure_logging(settings)
    end_with_parent()
    feed: Feed
    if tape is not None:
        parted = fault is not None or factor is not None
        feed = _tape(tape, frame_ms, form, settings.finnhub.max_frame_bytes, parted=parted)
    elif form.arguments():
        message = "--format, --columns, --symbol and --conditions go with --tape."
        raise UsageError(message)
    else:
        feed = RandomMarket(seed, int(time.time() * 1000), frame_ms)
    if fault:
        feed = FaultyFeed(feed, faults, seed)
    token = os.environ.get(TOKEN_VARIABLE, DEFAULT_TOKEN)
    options = ServerOptions(host, port, token, factor, symbol_cap, send_limit=send_limit)
    run_until_signalled(_serve(SimulatedFinnhub(options, feed), report))


def _tape(path: Path, frame_ms: int, form: TapeForm, max_frame_bytes: int, *, parted: bool) -> Feed:
    """Read a tape; `parted` when frames of one millisecond may not be read one after the other."""
    from tapeline.simulator.tape import Tape  # noqa: PLC0415 - Arrow is large; no market needs it

    tape = Tape(path, frame_ms, form, max_frame_bytes)
    if parted:
        tape.require_whole_milliseconds()
    for line in tape.notes.in_short():
        log.info("tape", note=line)
    return tape


def parse_speed(text: str) -> float | None:
    """Return the factor, or None for `max`.

    Raises:
        UsageError: it is neither.
    """
    if text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not _LEAST_SPEED <= factor <= _MOST_SPEED:
        message = f"--speed is 'max' or a number from 0.00001 to 100,000, not {text!r}."
        raise UsageError(message)
    return factor


async def _serve(simulator: SimulatedFinnhub, report: Path | None) -> None:
    host, port = simulator.options.host, simulator.options.port
    try:
        server = await simulator.serve()
    except (OSError, UnicodeError) as error:
        message = f"Cannot listen on {host}:{port}: choose another with --host or --port."
        raise UsageError(message) from error
    try:
        async with server:
            log.info("simulator_listening", host=host, port=port)
            await server.serve_forever()
    finally:
        if report is not None:
            simulator.ledger.report.write(report)
