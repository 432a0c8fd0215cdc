"""The shapes in which vendors hand out trades, as they document them.

Binance: public data, `trades` and `aggTrades` of spot and futures, spot without a line of names.
Kraken: the downloadable time and sales, without names. Polygon (now Massive): flat files of
trades. Alpaca: the data frame of its Python client, and the fields of its API. Databento: schema
`trades` as CSV or Parquet, prices in units of 1e-9 or as decimals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tapeline.simulator.tape_file.codes import ConditionCodes


class TapeFormat(str, Enum):
    """Whose shape a tape has; the first is our own."""

    TAPELINE = "tapeline"
    BINANCE = "binance"
    KRAKEN = "kraken"
    POLYGON = "polygon"
    ALPACA = "alpaca"
    DATABENTO = "databento"


class Role(Enum):
    """What a column of a tape may be; the value is its name in `--columns`."""

    TIME = "time"
    SYMBOL = "symbol"
    PRICE = "price"
    SIZE = "size"
    CONDITIONS = "conditions"
    PLAN = "tape"
    """On which consolidated tape the symbol is listed: A and B are the CTA's, C is UTP's."""


REQUIRED: Final = (Role.TIME, Role.SYMBOL, Role.PRICE, Role.SIZE)


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of file.

    Args:
        names: all columns in the file's order, by which it is known, with names or without.
        roles: which of them is what; what a file may lack is not among `names`.
        may_lack_names: whether such files come without a line of names.
        first_time: what the first row's time looks like there, a regular expression.
        is_known_by_names: whether nobody else's files have these names.
        only: what a column must hold everywhere, else its rows are not all trades.
        noted: a column whose values other than 0 are counted and said, with what they say.
        is_by_symbol: whether such files hold one symbol after the other, each by time.
    """

    names: tuple[str, ...]
    roles: Mapping[Role, str]
    may_lack_names: bool = False
    first_time: str = ""
    is_known_by_names: bool = True
    only: tuple[str, str] | None = None
    noted: tuple[str, str] | None = None
    is_by_symbol: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """A vendor's shapes, the codes of its conditions, and what one unit of a whole price is."""

    shapes: tuple[Shape, ...]
    codes: ConditionCodes = ConditionCodes.FINNHUB
    price_unit: float | None = None


_MS_OR_US: Final = r"\d{13}|\d{16}"
_AGGREGATE: Final = (
    *("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id"),
    *("transact_time", "is_buyer_maker"),
)
_AGGREGATE_ROLES: Final = {
    Role.TIME: "transact_time",
    Role.PRICE: "price",
    Role.SIZE: "quantity",
}


def _binance(*names: str) -> Shape:
    roles = {Role.TIME: "time", Role.PRICE: "price", Role.SIZE: "qty"}
    return Shape(names, roles, may_lack_names=True, first_time=_MS_OR_US)


def _binance_aggregates(*more: str) -> Shape:
    names = (*_AGGREGATE, *more)
    return Shape(names, _AGGREGATE_ROLES, may_lack_names=True, first_time=_MS_OR_US)


_OWN: Final = Preset(
    (
        Shape(
            ("event_time_ms", "symbol", "price", "volume"),
            {
                Role.TIME: "event_time_ms",
                Role.SYMBOL: "symbol",
                Role.PRICE: "price",
                Role.SIZE: "volume",
                Role.CONDITIONS: "conditions",
            },
        ),
    )
)
_BINANCE: Final = Preset(
    (
        _binance("id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch"),
        _binance("id", "price", "qty", "quote_qty", "time", "is_buyer_maker"),
        _binance("id", "price", "qty", "base_qty", "time", "is_buyer_maker"),
        _binance_aggregates("is_best_match"),
        _binance_aggregates(),
    )
)
_KRAKEN: Final = Preset(
    (
        Shape(
            ("timestamp", "price", "volume"),
            {Role.TIME: "timestamp", Role.PRICE: "price", Role.SIZE: "volume"},
            may_lack_names=True,
            first_time=r"\d{9,10}(\.\d+)?",
            is_known_by_names=False,
        ),
    )
)
_CORRECTED: Final = ("correction", "have been corrected or cancelled later, and are played")
_OF_THE_TAPES: Final = {
    Role.TIME: "sip_timestamp",
    Role.SYMBOL: "ticker",
    Role.PRICE: "price",
    Role.SIZE: "size",
    Role.CONDITIONS: "conditions",
}
_POLYGON: Final = Preset(
    (
        Shape(
            (
                *("ticker", "conditions", "correction", "exchange", "id"),
                *("participant_timestamp", "price", "sequence_number", "sip_timestamp", "size"),
                *("tape", "trf_id", "trf_timestamp"),
            ),
            _OF_THE_TAPES,
            noted=_CORRECTED,
            is_by_symbol=True,
        ),
        Shape(  # options
            ("ticker", "conditions", "correction", "exchange", "price", "sip_timestamp", "size"),
            _OF_THE_TAPES,
            noted=_CORRECTED,
            is_by_symbol=True,
        ),
        Shape(  # crypto, whose conditions say who bought
            ("ticker", "conditions", "exchange", "id", "participant_timestamp", "price", "size"),
            {
                Role.TIME: "participant_timestamp",
                Role.SYMBOL: "ticker",
                Role.PRICE: "price",
                Role.SIZE: "size",
            },
            is_by_symbol=True,
        ),
    ),
    ConditionCodes.POLYGON,
)
_ALPACA: Final = Preset(
    (
        Shape(
            ("symbol", "timestamp", "exchange", "price", "size", "id", "conditions", "tape"),
            {
                Role.TIME: "timestamp",
                Role.SYMBOL: "symbol",
                Role.PRICE: "price",
                Role.SIZE: "size",
                Role.CONDITIONS: "conditions",
                Role.PLAN: "tape",
            },
        ),
        Shape(
            ("t", "x", "p", "s", "c", "i", "z"),
            {
                Role.TIME: "t",
                Role.PRICE: "p",
                Role.SIZE: "s",
                Role.CONDITIONS: "c",
                Role.PLAN: "z",
            },
        ),
    ),
    ConditionCodes.SIP,
)
_DATABENTO: Final = Preset(
    (
        Shape(
            (
                *("ts_event", "rtype", "publisher_id", "instrument_id", "action", "side"),
                *("price", "size", "flags", "sequence"),
            ),
            {
                Role.TIME: "ts_event",
                Role.SYMBOL: "symbol",
                Role.PRICE: "price",
                Role.SIZE: "size",
            },
            only=("action", "T"),
        ),
    ),
    price_unit=1e-9,
)

PRESETS: Final[Mapping[TapeFormat, Preset]] = {
    TapeFormat.TAPELINE: _OWN,
    TapeFormat.BINANCE: _BINANCE,
    TapeFormat.KRAKEN: _KRAKEN,
    TapeFormat.POLYGON: _POLYGON,
    TapeFormat.ALPACA: _ALPACA,
    TapeFormat.DATABENTO: _DATABENTO,
}
