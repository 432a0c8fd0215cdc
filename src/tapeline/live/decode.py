"""Decode messages of the topic: valid trades, by the rules of `parse_trade_from_avro`."""

from __future__ import annotations

from typing import Final

from tapeline.model.reasons import (
    BROKER_MOST_OFF_MS,
    EARLIEST_EVENT_TIME_MS,
    LATEST_AHEAD_MS,
    MAX_SYMBOL_CHARACTERS,
    PRICE_LIMIT,
    VOLUME_LIMIT,
)
from tapeline.model.trade import TRADE_HEADER, Trade, fields_of
from tapeline.model.venues import may_be_below_zero

_RANK_LIMIT: Final = 1 << 31


def decode_trade(value: bytes | None, kafka_timestamp_ms: int) -> Trade | None:
    """Return the trade that a message holds, None when it is no valid one.

    Args:
        value: the message.
        kafka_timestamp_ms: when the broker received it.
    """
    if value is None or not value.startswith(TRADE_HEADER):
        return None
    fields = fields_of(value)
    if fields is None:
        return None
    symbol, price, volume, event_time_ms, conditions, trade_id, received_at_us, rank, source = (
        fields
    )
    sale = None if conditions is None else tuple(conditions)
    trade = Trade(
        symbol, price, volume, event_time_ms, sale, trade_id, received_at_us, rank, source
    )
    return trade if _is_valid(trade, kafka_timestamp_ms) else None


def _is_valid(trade: Trade, kafka_timestamp_ms: int) -> bool:
    # The broker's clock may be wrong, and bounds only roughly what travels in the message. A
    # comparison with NaN is false, so that it fails every range.
    receipt_us = min(trade.received_at_us, (kafka_timestamp_ms + BROKER_MOST_OFF_MS) * 1000)
    latest_us = receipt_us + LATEST_AHEAD_MS * 1000
    return (
        0 < len(trade.symbol) <= MAX_SYMBOL_CHARACTERS
        and trade.event_time_ms >= EARLIEST_EVENT_TIME_MS
        and trade.event_time_ms * 1000 <= latest_us
        and (
            0 < trade.price < PRICE_LIMIT
            or (-PRICE_LIMIT < trade.price <= 0 and may_be_below_zero(trade.symbol))
        )
        and 0 <= trade.volume < VOLUME_LIMIT
        # A rank that is no 32-bit number does not decode elsewhere.
        and -_RANK_LIMIT <= trade.sequence < _RANK_LIMIT
    )
