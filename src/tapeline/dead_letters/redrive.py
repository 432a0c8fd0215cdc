"""Dead letters as trades, by today's rules: which are valid now, each with an id that stays.

A refused trade has no place in the order of its connection any more, so its id is that of a
stale one: it counts its twins inside its own frame, those that were accepted at first before
those that were not. Redriven as often as one likes it has the same id, and is one row of silver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tapeline.dead_letters.letter import Letter, Origin
from tapeline.feeds.known import feed_of
from tapeline.live.decode import decode_trade
from tapeline.model.trade import Trade
from tapeline.producer.identity import FrameCounts, GivenIdentity, hash_trade_id
from tapeline.producer.validation import TradeFrame, WireTrade, parse_frame
from tapeline.storage.cassandra_client import CassandraClient

UNKNOWN_SOURCE: Final = "redriven"
"""Of the trades of a letter that does not say where they came from."""

_US_PER_MS: Final = 1000
_LOOKED_UP: Final = 1000


@dataclass(slots=True)
class Redriven:
    """The trades that are valid now and not in silver, and how many letters' others there are.

    `refused` counts what today's rules refuse too, `expired` valid trades that were received so
    long ago that silver has begun to lose their windows, `stored` those that silver has.
    """

    trades: list[Trade] = field(default_factory=list)
    refused: int = 0
    expired: int = 0
    stored: int = 0


def redrive(letters: Iterable[Letter], expired_us: int, client: CassandraClient) -> Redriven:
    """Return what there is to send.

    Args:
        letters: of one topic.
        expired_us: what was received before has begun to expire from silver, µs since the epoch.
        client: of the keyspace.
    """
    result = Redriven()
    found: dict[tuple[str, int, int], Trade] = {}
    for letter in letters:
        trades, refused = trades_in(letter)
        result.refused += refused
        if letter.received_us < expired_us:
            result.expired += len(trades)
            continue
        for trade in trades:
            # A frame that came twice is two letters.
            found.setdefault((trade.symbol, trade.event_time_ms, trade.trade_id), trade)
    every = list(found.values())
    for start in range(0, len(every), _LOOKED_UP):
        some = every[start : start + _LOOKED_UP]
        stored = client.are_in_silver((t.symbol, t.event_time_ms, t.trade_id) for t in some)
        result.trades += [t for t, is_stored in zip(some, stored, strict=True) if not is_stored]
    result.stored = len(every) - len(result.trades)
    return result


def trades_in(letter: Letter) -> tuple[list[Trade], int]:
    """Return what was refused of a letter and is valid now, and how much is still refused."""
    if letter.origin is Origin.TOPIC:
        trade = decode_trade(letter.data, letter.received_us // _US_PER_MS)
        return ([], 1) if trade is None else ([trade], 0)
    feed = feed_of(letter.source)
    message = parse_frame(letter.data, letter.received_us // _US_PER_MS, feed)
    if not isinstance(message, TradeFrame):
        # Whatever it is that it says: no trade of it was ever refused.
        return [], len(letter.refusals)
    wires = dict(_by_index(message))
    indices = {index for index, _ in letter.refusals}
    first = None in indices  # then nothing of the frame was accepted
    wanted = {i for i in wires if first or i in indices}
    accepted = [wire for i, wire in wires.items() if i not in wanted]
    found = [wires[i] for i in sorted(wanted)]
    if feed.has_ids:
        trades = GivenIdentity(letter.source).assign(found, letter.received_us, 0.0)
    else:
        trades = _identified(letter, accepted, found)
    refused = sum(1 for r in message.rejects if first or r.index is None or r.index in indices)
    return trades, refused


def _by_index(frame: TradeFrame) -> Iterator[tuple[int, WireTrade]]:
    """Yield the valid trades of a frame with their places in it."""
    rejected = {reject.index for reject in frame.rejects if reject.index is not None}
    places = (i for i in range(len(frame.trades) + len(rejected)) if i not in rejected)
    return zip(places, frame.trades)  # noqa: B905 - a frame that is rejected whole has no trades


def _identified(
    letter: Letter, accepted: Iterable[WireTrade], wanted: Iterable[WireTrade]
) -> list[Trade]:
    counts = FrameCounts(accepted)
    trades = []
    for wire in wanted:
        k, rank = counts.place_of(wire)
        source = letter.source or UNKNOWN_SOURCE
        trades.append(Trade(*wire[:5], hash_trade_id(wire, k), letter.received_us, rank, source))
    return trades
