"""The rules of identity, case by case, and what must hold for any feed.

Expected ids are xxh64 of the text spelled out here, as a signed 64-bit number.
"""

from __future__ import annotations

import struct
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from tapeline.model.trade import Trade
from tapeline.producer.identity import TradeIdentity, hash_trade_id
from tapeline.producer.redelivery import FrameMemory
from tapeline.producer.validation import WireTrade
from tapeline.program.metrics import PRODUCER_METRICS, REDELIVERED, SUSPECT_DUPLICATES, Metrics

T0 = 1_763_649_000_123
RECEIVED_US = 1_763_649_000_200_000


def signed_xxh64(text: str) -> int:
    (value,) = struct.unpack("<q", struct.pack("<Q", xxh64_intdigest(text.encode(), seed=0)))
    return value


def wire(
    event_time_ms: int = T0,
    price: float = 189.13,
    volume: float = 100.0,
    conditions: tuple[str, ...] | None = ("1", "12"),
    symbol: str = "AAPL",
) -> WireTrade:
    return WireTrade(symbol, price, volume, event_time_ms, conditions)


def connection(same_millisecond_s: float = 2.0) -> TradeIdentity:
    return TradeIdentity("finnhub", same_millisecond_s)


def ids(trades: list[Trade]) -> list[int]:
    return [t.trade_id for t in trades]


def ranks(trades: list[Trade]) -> list[int]:
    return [t.sequence for t in trades]


def first(k: int, event_time_ms: int = T0) -> int:
    return signed_xxh64(f"AAPL|{event_time_ms}|189.13|100.0|1,12|{k}")


@pytest.mark.parametrize(
    ("trade", "k", "text"),
    [
        (wire(), 0, "AAPL|1763649000123|189.13|100.0|1,12|0"),
        (wire(), 7, "AAPL|1763649000123|189.13|100.0|1,12|7"),
        (wire(conditions=("12", "1")), 0, "AAPL|1763649000123|189.13|100.0|12,1|0"),
        (wire(conditions=None), 0, "AAPL|1763649000123|189.13|100.0||0"),
        (wire(conditions=()), 0, "AAPL|1763649000123|189.13|100.0||0"),
        (
            wire(1_763_649_000_000, 84_900.01, 0.00071, None, "BINANCE:BTCUSDT"),
            2,
            "BINANCE:BTCUSDT|1763649000000|84900.01|0.00071||2",
        ),
        (wire(price=189.0, volume=0.0), 0, "AAPL|1763649000123|189.0|0.0|1,12|0"),
        (wire(price=0.1 + 0.2), 0, "AAPL|1763649000123|0.30000000000000004|100.0|1,12|0"),
        (wire(symbol="ÖMV Ω"), 0, "ÖMV Ω|1763649000123|189.13|100.0|1,12|0"),
    ],
)
def test_an_id_is_the_signed_xxh64_of_the_documented_text(trade, k, text):
    assert hash_trade_id(trade, k) == signed_xxh64(text)


def test_ids_use_both_signs_of_64_bits():
    values = [hash_trade_id(wire(), k) for k in range(64)]
    assert min(values) < 0 < max(values)
    assert all(-(2**63) <= v < 2**63 for v in values)


def test_twins_of_one_millisecond_get_different_ids():
    trades = connection().assign([wire(), wire(), wire()], RECEIVED_US, 10.0)

    assert ids(trades) == [first(0), first(1), first(2)]
    assert ranks(trades) == [0, 1, 2]


def test_twins_are_counted_across_frames():
    feed = connection()

    one = feed.assign([wire(), wire()], RECEIVED_US, 10.0)
    two = feed.assign([wire()], RECEIVED_US, 10.5)

    assert ids(one + two) == [first(0), first(1), first(2)]
    assert ranks(one + two) == [0, 1, 2]


def test_trades_that_differ_in_price_size_or_conditions_are_counted_apart_but_ranked_together():
    trades = connection().assign(
        [wire(), wire(price=189.14), wire(volume=50.0), wire(conditions=("1",)), wire()],
        RECEIVED_US,
        10.0,
    )

    assert ids(trades) == [
        first(0),
        signed_xxh64("AAPL|1763649000123|189.14|100.0|1,12|0"),
        signed_xxh64("AAPL|1763649000123|189.13|50.0|1,12|0"),
        signed_xxh64("AAPL|1763649000123|189.13|100.0|1|0"),
        first(1),
    ]
    assert ranks(trades) == [0, 1, 2, 3, 4]


def test_symbols_are_counted_and_ranked_apart():
    trades = connection().assign([wire(), wire(symbol="MSFT"), wire()], RECEIVED_US, 10.0)

    assert ids(trades) == [
        first(0),
        signed_xxh64("MSFT|1763649000123|189.13|100.0|1,12|0"),
        first(1),
    ]
    assert ranks(trades) == [0, 0, 1]


def test_no_conditions_and_an_empty_list_are_twins_of_each_other():
    trades = connection().assign([wire(conditions=None), wire(conditions=())], RECEIVED_US, 10.0)

    assert ids(trades) == [
        signed_xxh64("AAPL|1763649000123|189.13|100.0||0"),
        signed_xxh64("AAPL|1763649000123|189.13|100.0||1"),
    ]


def test_a_frame_delivered_again_later_gets_the_same_ids_and_ranks():
    feed = connection()
    frame = [wire(), wire(), wire(price=189.2), wire(symbol="MSFT")]
    newer = [wire(T0 + 1), wire(T0 + 1, symbol="MSFT")]

    original = feed.assign(frame, RECEIVED_US, 10.0)
    feed.assign(newer, RECEIVED_US, 10.1)
    again = feed.assign(frame, RECEIVED_US, 10.2)

    assert ids(again) == ids(original)
    assert ranks(again) == ranks(original) == [0, 1, 2, 0]


def test_a_redelivery_leaves_the_counters_of_the_newest_millisecond_alone():
    feed = connection()
    feed.assign([wire()], RECEIVED_US, 10.0)
    feed.assign([wire(T0 + 1)], RECEIVED_US, 10.1)
    feed.assign([wire(), wire()], RECEIVED_US, 10.2)

    after = feed.assign([wire(T0 + 1)], RECEIVED_US, 10.3)

    assert ids(after) == [first(1, T0 + 1)]
    assert ranks(after) == [1]


def test_a_merely_late_trade_gets_an_id_of_its_own_and_rank_0():
    feed = connection()
    feed.assign([wire(T0 + 60_000)], RECEIVED_US, 10.0)

    late = feed.assign([wire(T0)], RECEIVED_US, 10.1)

    assert ids(late) == [first(0)]
    assert ranks(late) == [0]


def test_stale_twins_are_told_apart_inside_their_own_frame():
    feed = connection()
    feed.assign([wire(T0 + 5)], RECEIVED_US, 10.0)

    stale = feed.assign([wire(), wire(price=1.5), wire()], RECEIVED_US, 10.1)

    assert ids(stale) == [
        first(0),
        signed_xxh64("AAPL|1763649000123|1.5|100.0|1,12|0"),
        first(1),
    ]
    assert ranks(stale) == [0, 1, 2]


def test_stale_twins_in_different_frames_collapse_as_documented():
    feed = connection()
    feed.assign([wire(T0 + 5)], RECEIVED_US, 10.0)

    one = feed.assign([wire()], RECEIVED_US, 10.1)
    two = feed.assign([wire()], RECEIVED_US, 10.2)

    assert ids(one) == ids(two) == [first(0)]


def test_a_trade_that_turns_stale_inside_its_frame_counts_its_twins_before_it():
    trades = connection().assign([wire(), wire(T0 + 1), wire()], RECEIVED_US, 10.0)

    assert ids(trades) == [first(0), first(0, T0 + 1), first(1)]
    assert ranks(trades) == [0, 0, 1]


def test_the_newest_millisecond_stays_in_order_for_two_seconds_from_its_first_arrival():
    feed = connection(same_millisecond_s=2.0)
    feed.assign([wire()], RECEIVED_US, 100.0)

    at_one_second = feed.assign([wire()], RECEIVED_US, 101.0)
    at_two_seconds = feed.assign([wire()], RECEIVED_US, 102.0)
    after = feed.assign([wire()], RECEIVED_US, 102.001)

    assert ids(at_one_second) == [first(1)]
    assert ids(at_two_seconds) == [first(2)]
    assert ids(after) == [first(0)]
    assert ranks(after) == [0]


def test_the_two_seconds_are_a_setting():
    feed = connection(same_millisecond_s=0.5)
    feed.assign([wire()], RECEIVED_US, 100.0)

    assert ids(feed.assign([wire()], RECEIVED_US, 100.5)) == [first(1)]
    assert ids(feed.assign([wire()], RECEIVED_US, 100.6)) == [first(0)]


def test_a_newer_millisecond_starts_two_seconds_of_its_own():
    feed = connection()
    feed.assign([wire()], RECEIVED_US, 100.0)
    feed.assign([wire(T0 + 1)], RECEIVED_US, 103.0)

    assert ids(feed.assign([wire(T0 + 1)], RECEIVED_US, 104.9)) == [first(1, T0 + 1)]


@pytest.mark.parametrize("frame", [[wire()], [wire(), wire()]])
def test_one_trade_or_equal_ones_twice_at_once_are_kept_as_twins_as_documented(frame):
    metrics = Metrics(PRODUCER_METRICS)
    feed = TradeIdentity("finnhub", 2.0, FrameMemory(600.0, metrics))

    one = feed.assign(frame, RECEIVED_US, 10.0, "frame")
    two = feed.assign(frame, RECEIVED_US, 10.0, "frame")

    assert ids(one + two) == [first(k) for k in range(2 * len(frame))]
    assert metrics.total(SUSPECT_DUPLICATES) == len(frame)
    assert metrics.total(REDELIVERED) == 0


OTHER = wire(price=189.14)


def test_another_trade_of_the_same_millisecond_is_no_suspect():
    metrics = Metrics(PRODUCER_METRICS)
    feed = TradeIdentity("finnhub", 2.0, FrameMemory(600.0, metrics))

    feed.assign([wire()], RECEIVED_US, 10.0, "one")
    other = feed.assign([OTHER], RECEIVED_US, 10.0, "two")

    assert (ranks(other), metrics.total(SUSPECT_DUPLICATES)) == ([1], 0)


def test_a_frame_of_different_trades_three_times_at_once_counts_once():
    metrics = Metrics(PRODUCER_METRICS)
    feed = TradeIdentity("finnhub", 2.0, FrameMemory(600.0, metrics))

    # The first frame begins the millisecond, so that the second one's places are not 0, 1.
    feed.assign([wire(), OTHER], RECEIVED_US, 10.0, "one")
    deliveries = [feed.assign([wire(), OTHER], RECEIVED_US, 10.0, b"two") for _ in range(3)]
    after = feed.assign([wire()], RECEIVED_US, 10.1, "three")

    second_other = signed_xxh64("AAPL|1763649000123|189.14|100.0|1,12|1")
    assert [ids(d) for d in deliveries] == [[first(1), second_other]] * 3
    assert [ranks(d) for d in deliveries] == [[2, 3]] * 3
    assert (ids(after), ranks(after)) == ([first(2)], [4])
    assert (metrics.total(REDELIVERED), metrics.total(SUSPECT_DUPLICATES)) == (4, 1)


@pytest.mark.parametrize(("after_s", "k"), [(600.0, 0), (600.1, 1)])
def test_a_frame_is_remembered_for_some_minutes(after_s, k):
    feed = TradeIdentity("finnhub", 10_000.0, FrameMemory(600.0))
    feed.assign([wire(), OTHER], RECEIVED_US, 0.0, "frame")

    assert ids(feed.assign([wire(), OTHER], RECEIVED_US, after_s, "frame"))[0] == first(k)


def test_the_oldest_frames_are_forgotten_when_there_are_too_many_trades():
    feed = TradeIdentity("finnhub", 2.0, FrameMemory(600.0, most_trades=4))
    for name in ("one", "two", "three"):
        feed.assign([wire(), OTHER], RECEIVED_US, 10.0, name)

    remembered = ids(feed.assign([wire(), OTHER], RECEIVED_US, 10.0, "two"))
    forgotten = ids(feed.assign([wire(), OTHER], RECEIVED_US, 10.0, "one"))

    assert (remembered[0], forgotten[0]) == (first(1), first(3))


def test_a_frame_of_which_more_is_valid_when_it_comes_again_loses_nothing():
    """A trade ahead of the clock is refused at first, and valid a minute later."""
    feed = connection()
    at_first = feed.assign([wire(), OTHER], RECEIVED_US, 10.0, "frame")
    ahead = wire(T0 + 70_000)

    again = feed.assign([wire(), OTHER, ahead], RECEIVED_US + 20_000_000, 30.0, "frame")

    assert ids(again) == [*ids(at_first), first(0, T0 + 70_000)]


def test_a_frame_of_an_earlier_connection_keeps_its_places_and_twins_are_counted_on():
    memory = FrameMemory(600.0)
    before = TradeIdentity("finnhub", 2.0, memory)
    before.assign([wire(), OTHER], RECEIVED_US, 10.0, "one")
    second = before.assign([wire(), OTHER], RECEIVED_US, 10.0, "two")

    after = TradeIdentity("finnhub", 2.0, memory)
    again = after.assign([wire(), OTHER], RECEIVED_US, 11.0, "two")
    twin = after.assign([wire()], RECEIVED_US, 11.0, "three")

    assert (ids(again), ranks(again)) == (ids(second), ranks(second))
    assert (ids(twin), ranks(twin)) == ([first(2)], [4])


@pytest.mark.parametrize("earlier", [0, 1, 2])
def test_a_twin_after_a_frame_of_an_earlier_connection_is_the_next_one(earlier):
    memory = FrameMemory(600.0)
    before = TradeIdentity("finnhub", 2.0, memory)
    for number in range(earlier + 1):
        before.assign([wire(), OTHER], RECEIVED_US, 10.0, f"frame {number}")

    after = TradeIdentity("finnhub", 2.0, memory)
    after.assign([wire(), OTHER], RECEIVED_US, 11.0, f"frame {earlier}")
    twin = after.assign([wire()], RECEIVED_US, 11.0, "another")

    assert (ids(twin), ranks(twin)) == ([first(earlier + 1)], [2 * earlier + 2])


def test_places_of_an_earlier_connection_count_on_from_those_of_this_one():
    memory = FrameMemory(600.0)
    before = TradeIdentity("finnhub", 2.0, memory)
    before.assign([wire(), OTHER], RECEIVED_US, 10.0, "old")
    before.assign([wire(), OTHER], RECEIVED_US, 10.0, "second")
    before.assign([wire(T0 + 1), wire(T0 + 1, 1.5)], RECEIVED_US, 10.0, "newer")

    after = TradeIdentity("finnhub", 2.0, memory)
    after.assign([wire(int(str(T0)))] * 3, RECEIVED_US, 11.0, "three twins")
    after.assign([wire(), OTHER], RECEIVED_US, 11.0, "second")
    twin = after.assign([wire()], RECEIVED_US, 11.0, "a fourth")
    assert (ids(twin), ranks(twin)) == ([first(3)], [4])

    # It begins a millisecond here too, and an older frame leaves that alone.
    after.assign([wire(T0 + 1), wire(T0 + 1, 1.5)], RECEIVED_US, 11.0, "newer")
    after.assign([wire(), OTHER], RECEIVED_US, 11.0, "second")
    newest = after.assign([wire(T0 + 1)], RECEIVED_US, 11.0, "newest")
    assert (ids(newest), ranks(newest)) == ([first(1, T0 + 1)], [2])


def test_without_a_memory_a_frame_that_comes_later_is_another_one():
    feed = connection()
    feed.assign([wire(), OTHER], RECEIVED_US, 10.0, "frame")

    assert ids(feed.assign([wire(), OTHER], RECEIVED_US, 10.5, "frame"))[0] == first(1)


@pytest.mark.parametrize(("speed", "k"), [(1.0, 1), (480.0, 0)])
def test_the_two_seconds_are_of_the_tape_at_its_speed(speed, k):
    feed = TradeIdentity("replay", 2.0, speed=speed)
    feed.assign([wire()], RECEIVED_US, 100.0)

    assert ids(feed.assign([wire()], RECEIVED_US, 100.005)) == [first(k)]


@pytest.mark.parametrize(("others_ms", "k"), [(2000, 1), (2001, 0)])
def test_without_a_speed_the_newest_trade_of_the_tape_tells_the_time(others_ms, k):
    feed = TradeIdentity("replay", 2.0, speed=None)
    feed.assign([wire()], RECEIVED_US, 100.0)
    feed.assign([wire(T0 + others_ms, symbol="MSFT")], RECEIVED_US, 100.0)

    assert ids(feed.assign([wire()], RECEIVED_US, 100.0)) == [first(k)]


def test_a_new_connection_counts_from_0_again():
    frame = [wire(), wire()]

    before = connection().assign(frame, RECEIVED_US, 10.0)
    after = connection().assign(frame, RECEIVED_US + 9, 11.0)

    assert ids(before) == ids(after) == [first(0), first(1)]
    assert ranks(before) == ranks(after) == [0, 1]


def test_a_trade_keeps_what_the_feed_sent_and_gets_receipt_and_source():
    (trade,) = TradeIdentity("replay", 2.0).assign(
        [wire(T0, 1.5, 0.25, ("8",), "IC MARKETS:1")], RECEIVED_US, 10.0
    )

    assert trade == Trade(
        symbol="IC MARKETS:1",
        price=1.5,
        volume=0.25,
        event_time_ms=T0,
        conditions=("8",),
        trade_id=signed_xxh64("IC MARKETS:1|1763649000123|1.5|0.25|8|0"),
        received_at_us=RECEIVED_US,
        sequence=0,
        source="replay",
    )


@st.composite
def feeds(draw):
    """Frames in which no symbol's time ever steps back, with many twins."""
    clock = {"AAPL": T0, "MSFT": T0, "OANDA:EUR_USD": T0}
    trades = []
    for symbol, step, price, volume, conditions in draw(
        st.lists(
            st.tuples(
                st.sampled_from(sorted(clock)),
                st.sampled_from([0, 0, 1, 2]),
                st.sampled_from([1.0, 1.5]),
                st.sampled_from([0.0, 100.0]),
                st.sampled_from([None, (), ("1",), ("1", "12")]),
            ),
            min_size=1,
            max_size=30,
        )
    ):
        clock[symbol] += step
        trades.append(WireTrade(symbol, price, volume, clock[symbol], conditions))
    cuts = sorted(draw(st.sets(st.integers(1, 29), max_size=8)) | {0, len(trades)})
    return [trades[a:b] for a, b in pairwise(cuts) if trades[a:b]]


@settings(deadline=None, max_examples=150)
@given(feeds(), st.data())
def test_any_frame_delivered_again_later_brings_no_new_id(frames, data):
    feed = connection()
    original = [t for i, f in enumerate(frames) for t in feed.assign(f, RECEIVED_US, i / 1000)]
    assert len(set(ids(original))) == len(original)
    before = {(t.symbol, t.event_time_ms, t.trade_id) for t in original}

    # Later than two seconds after the newest millisecond, in any order and any number.
    for frame in data.draw(st.lists(st.sampled_from(frames), min_size=1, max_size=5)):
        again = feed.assign(frame, RECEIVED_US, 10.0)
        assert {(t.symbol, t.event_time_ms, t.trade_id) for t in again} <= before


@settings(deadline=None, max_examples=150)
@given(feeds(), st.randoms(use_true_random=False))
def test_redeliveries_behind_newer_trades_change_nothing_for_the_trades_after_them(frames, rng):
    plain, disturbed = connection(), connection()
    newest: dict[str, int] = {}
    sent: list[list[WireTrade]] = []
    expected: list[int] = []
    seen: list[int] = []
    for i, frame in enumerate(frames):
        expected += ids(plain.assign(frame, RECEIVED_US, i / 1000))
        seen += ids(disturbed.assign(frame, RECEIVED_US, i / 1000))
        for t in frame:
            newest[t.symbol] = t.event_time_ms
        sent.append(frame)
        behind = [f for f in sent if all(t.event_time_ms < newest[t.symbol] for t in f)]
        if behind:
            again = ids(disturbed.assign(rng.choice(behind), RECEIVED_US, i / 1000))
            assert set(again) <= set(expected)
    assert seen == expected


@settings(deadline=None)
@given(feeds())
def test_the_same_frames_on_two_connections_get_the_same_ids_and_ranks(frames):
    one, two = connection(), connection()
    for i, frame in enumerate(frames):
        a = one.assign(frame, RECEIVED_US, i / 1000)
        b = two.assign(frame, RECEIVED_US + 5, i / 1000 + 77)
        assert ids(a) == ids(b)
        assert ranks(a) == ranks(b)


def expected_of(frames: list[list[WireTrade]], arrivals_s: list[float]) -> list[tuple[int, int]]:
    """Ids and ranks by the rule of docs/bars.md, counted again for each trade from all before
    it."""
    in_order: list[WireTrade] = []
    newest: dict[str, tuple[int, float]] = {}
    expected = []
    for frame, arrival_s in zip(frames, arrivals_s, strict=True):
        for index, trade in enumerate(frame):
            time_ms, first_s = newest.get(trade.symbol, (-1, 0.0))
            if trade.event_time_ms > time_ms:
                newest[trade.symbol] = (trade.event_time_ms, arrival_s)
                is_in_order = True
            else:
                is_in_order = trade.event_time_ms == time_ms and arrival_s - first_s <= 2.0
            earlier = [_values(t) for t in (in_order if is_in_order else frame[:index])]
            mine = _values(trade)
            k = Counter(earlier)[mine]
            rank = sum(values[:2] == mine[:2] for values in earlier)
            symbol, time, price, volume, conditions = mine
            text = f"{symbol}|{time}|{price!r}|{volume!r}|{','.join(conditions)}|{k}"
            expected.append((signed_xxh64(text), rank))
            if is_in_order:
                in_order.append(trade)
    return expected


def _values(trade: WireTrade) -> tuple[str, int, float, float, tuple[str, ...]]:
    conditions = trade.conditions or ()
    return trade.symbol, trade.event_time_ms, trade.price, trade.volume, conditions


unordered_trade = st.builds(
    WireTrade,
    symbol=st.sampled_from(["AAPL", "MSFT"]),
    price=st.sampled_from([1.0, 0.1 + 0.2]),
    volume=st.sampled_from([0.0, 100.0]),
    event_time_ms=st.integers(T0, T0 + 3),
    conditions=st.sampled_from([None, (), ("1",), ("12", "1")]),
)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.lists(unordered_trade, max_size=8), max_size=8),
    st.lists(st.sampled_from([0.0, 0.5, 1.5, 2.5]), min_size=8, max_size=8),
)
def test_in_any_order_ids_and_ranks_are_those_of_the_rule(frames, pauses_s):
    arrivals_s = [10.0 + sum(pauses_s[: i + 1]) for i in range(len(frames))]
    feed = connection()

    found = [
        (t.trade_id, t.sequence)
        for frame, arrival_s in zip(frames, arrivals_s, strict=True)
        for t in feed.assign(frame, RECEIVED_US, arrival_s)
    ]

    assert found == expected_of(frames, arrivals_s)
