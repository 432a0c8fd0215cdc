"""Why something is not accepted, and the limits of what is."""

from __future__ import annotations

from enum import Enum
from typing import Final

EARLIEST_EVENT_TIME_MS: Final = 946_684_800_000
"""2000-01-01T00:00Z; an earlier time is a mistake, most often seconds in place of ms."""
LATEST_AHEAD_MS: Final = 60_000
"""How far a trade's time may lie after its receipt, in ms."""
BROKER_MOST_OFF_MS: Final = 86_400_000
"""How far a trade's receipt by the producer may lie after that by the broker, in ms.

The producer's receipt is right by the feed's time, even where its host's clock is wrong; the
broker's clock, which may be the same wrong one, only bounds it.
"""
PRICE_LIMIT: Final = 1e11
"""Of a price without its sign."""
VOLUME_LIMIT: Final = 1e13
"""Sums of a bar are decimals (38, 10), below 1e28. One trade adds less than 1e11 * 1e13 = 1e24, so
10,000 trades at both limits fit; real ones are far from both: a bitcoin is some 3e9 dong or 9e9
Lebanese pounds, and coins that trade in 1e12 pieces cost far below 1. The query of the audit
(`audit/messages.py`) has the same limits.
"""
MAX_SYMBOL_CHARACTERS: Final = 128


class Reason(str, Enum):
    """Why a frame, a trade or a Kafka message is not accepted."""

    FRAME_TOO_LARGE = "frame_too_large"
    MALFORMED_JSON = "malformed_json"
    UNKNOWN_MESSAGE = "unknown_message"
    WRONG_TYPE = "wrong_type"
    EMPTY_SYMBOL = "empty_symbol"
    BAD_PRICE = "bad_price"
    BAD_VOLUME = "bad_volume"
    BAD_TIME = "bad_time"
    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown_schema"
