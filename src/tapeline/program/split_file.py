"""Splits of shares from a CSV file, all of it checked before anything is read."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Final

from tapeline.model.errors import UsageError
from tapeline.model.sessions import day_begins
from tapeline.model.splits import Split, Splits
from tapeline.model.symbols import parse_symbols
from tapeline.model.times import EPOCH, LAST_TIME, iso

_COLUMNS: Final = ("symbol", "effective", "factor")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NUMBER: Final = r"\d{1,9}(?:\.\d{1,9})?"
_FACTOR: Final = re.compile(rf"({_NUMBER})(?:[/:]({_NUMBER}))?", re.ASCII)
_LARGEST: Final = 1_000_000
_HOUR: Final = timedelta(hours=1)


def read_splits(path: str | Path, now: datetime) -> Splits:
    """Return the splits of a file that are effective by now.

    Its columns are `symbol`; `effective`, a day as its market has it, or a time with its zone and
    at a full hour; and `factor`, how many shares one became: `4`, `1.5`, `3:2` or, for ten to one,
    `1:10`.

    Args:
        path: of the file.
        now: what is announced for later changes nothing yet.

    Raises:
        UsageError: the file is not one of splits; the message says what is wrong with which line.
    """
    try:
        with Path(path).expanduser().open(encoding="utf-8-sig", newline="") as file:
            found = list(_splits(csv.DictReader(file, strict=True)))
    except OSError as error:
        said = f"it cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        said = "it is not text in UTF-8"
    except (csv.Error, RuntimeError, ValueError, UsageError) as error:
        said = str(error).removesuffix(".")
    else:
        return Splits.of(split for split in found if split.effective <= now)
    message = f"The splits in {path} are not valid: {said}."
    raise UsageError(message)


def _splits(rows: csv.DictReader[str]) -> Iterator[Split]:
    names = rows.fieldnames or ()
    if any(names.count(column) != 1 for column in _COLUMNS):
        message = f"its first line names the columns {', '.join(_COLUMNS)}, each once"
        raise ValueError(message)
    seen: set[tuple[str, datetime]] = set()
    for row in rows:
        try:
            split = _split(row)
        except (ValueError, UsageError) as error:
            message = f"line {rows.line_num}: {error}"
            raise ValueError(message) from error
        key = split.symbol, split.effective
        if key in seen:
            at = iso(split.effective)
            message = f"line {rows.line_num}: {split.symbol} is split at {at} a second time"
            raise ValueError(message)
        seen.add(key)
        yield split
    if not seen:
        message = "it holds none"
        raise ValueError(message)


def _split(row: Mapping[str, str | None]) -> Split:
    symbol, effective, factor = ((row[name] or "").strip() for name in _COLUMNS)
    symbols = parse_symbols(symbol)
    if len(symbols) > 1:
        message = f"{symbol!r} is not one symbol"
        raise ValueError(message)
    return Split(symbols[0], _time(symbols[0], effective), _factor(factor))


def _time(symbol: str, text: str) -> datetime:
    try:
        if _DAY.fullmatch(text):
            at = day_begins(symbol, date.fromisoformat(text))
        else:
            at = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        message = f"{text!r} is no day or time: give one such as 2026-06-10 or 2026-06-10T08:00Z"
        raise ValueError(message) from error
    if at.tzinfo is None:
        message = f"{text!r} needs a zone, as 2026-06-10T08:00Z, or is to be a day alone"
        raise ValueError(message)
    if not EPOCH <= at < LAST_TIME:
        message = f"{text!r} is not of 1970 to 2099"
        raise ValueError(message)
    at = at.astimezone(timezone.utc)
    if (at - EPOCH) % _HOUR:
        message = f"{text!r} is no full hour of UTC, with which a stored bar begins"
        raise ValueError(message)
    return at


def _factor(text: str) -> Fraction:
    found = _FACTOR.fullmatch(text)
    below = Fraction(found[2] or 1) if found else Fraction()
    factor = Fraction(found[1]) / below if found and below else Fraction()
    if not Fraction(1, _LARGEST) <= factor <= _LARGEST:
        message = (
            f"{text!r} is no factor: give how many shares one became, as 4, 1.5, 3:2 or 1:10, a "
            "million at most"
        )
        raise ValueError(message)
    return factor
