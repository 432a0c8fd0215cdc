"""Silver against gold: which bars must be there, which are compared, and what differs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pyarrow as pa

from tapeline.audit.context import Baseline
from tapeline.audit.findings import NO_GOLD, NO_SILVER, Compared, Pair
from tapeline.audit.silver_gold import compare_bars
from tapeline.model.bar import Bar
from tests.audit_rows import KEY, RECEIVED_MS, START, a_baseline, a_trade, frame

# 100 at 10.00, then 50 at 10.50.
TRADES = frame(a_trade(), a_trade(event_time_ms=1_795_188_700_000, price=10.5, volume=50.0))
BAR = Bar(
    symbol="AAPL",
    window_start=START,
    window_end=START + timedelta(minutes=5),
    open=10.0,
    high=10.5,
    low=10.0,
    close=10.5,
    volume=Decimal("150.0000000000"),
    notional=Decimal(1525),
    vwap=1525 / 150,
    trade_count=2,
    first_trade_time=START + timedelta(milliseconds=500),
    last_trade_time=START + timedelta(seconds=100),
    first_received_at=START + timedelta(seconds=1),
    session="regular",
    asset_class="equity",
    policy="sip",
    is_final=True,
    revision=1,
)


def compare(
    bar: Bar | None,
    silver: pa.Table = TRADES,
    baseline: Baseline | None = None,
    moving: set[tuple[str, object]] | None = None,
) -> Compared:
    bars = {} if bar is None else {KEY: bar}
    return compare_bars([KEY], bars, silver, baseline or a_baseline(), moving or set())  # type: ignore[arg-type]


def texts(compared: Compared) -> list[tuple[str, str, str]]:
    return [(d.what, d.expected, d.found) for d in compared.differences]


def test_the_bar_that_the_trades_make_is_no_difference() -> None:
    assert compare(BAR) == Compared(checked=1)


def test_every_value_that_differs_names_the_bar() -> None:
    changed = replace(BAR, high=10.51, volume=Decimal("150.0000000001"), session="pre")

    compared = compare(changed)

    assert texts(compared) == [
        ("high", "10.5", "10.51"),
        ("volume", "150", "150.0000000001"),
        ("session", "regular", "pre"),
    ]
    (high, *_) = compared.differences
    assert (high.pair, high.symbol, high.window_start) == (Pair.SILVER_GOLD, *KEY)


def test_a_bar_is_recomputed_under_its_own_policy() -> None:
    odd_lot = frame(a_trade(conditions="12"))
    unpriced = replace(
        BAR,
        **dict.fromkeys(("open", "high", "low", "close")),  # type: ignore[arg-type]
        volume=Decimal(100),
        notional=Decimal(1000),
        vwap=10.0,
        trade_count=1,
        unpriced_count=1,
        unpriced_volume=Decimal(100),
        last_trade_time=BAR.first_trade_time,
    )
    priced = replace(
        unpriced,
        **dict.fromkeys(("open", "high", "low", "close"), 10.0),  # type: ignore[arg-type]
        unpriced_count=0,
        unpriced_volume=Decimal(0),
        policy="sip+oddlot",
    )

    assert compare(unpriced, odd_lot) == Compared(checked=1)
    assert compare(priced, odd_lot) == Compared(checked=1)
    assert texts(compare(replace(BAR, policy="mine"))) == [
        ("policy", "all or sip or sip+oddlot", "mine")
    ]


def test_a_window_with_trades_must_have_its_bar() -> None:
    assert texts(compare(None)) == [("bar", "final", "none")]


def test_a_finalized_window_must_have_a_final_bar() -> None:
    assert texts(compare(replace(BAR, is_final=False))) == [
        ("bar", "final", "provisional, and no finalizing is due")
    ]


def test_a_final_bar_must_have_trades() -> None:
    assert texts(compare(BAR, frame())) == [("bar", "none: silver has no trade of it", "in gold")]


def test_what_may_still_change_is_not_compared() -> None:
    wrong = replace(BAR, high=99.0)

    assert compare(wrong, baseline=a_baseline(due={KEY})) == Compared(not_yet=1)
    assert compare(None, baseline=a_baseline(due={KEY})) == Compared(not_yet=1)
    assert compare(wrong, moving={KEY}) == Compared(not_yet=1)
    # The preview is ahead of silver.
    assert compare(replace(wrong, is_final=False), frame()) == Compared(not_yet=1)


def test_a_bar_whose_trades_may_have_expired_is_not_auditable() -> None:
    gone = a_baseline(silver_gone_ms=RECEIVED_MS)
    young = a_baseline(silver_gone_ms=RECEIVED_MS - 1)

    assert compare(BAR, frame(), gone) == Compared(unaudited={NO_SILVER: {KEY}})
    assert compare(BAR, TRADES.slice(1), gone) == Compared(unaudited={NO_SILVER: {KEY}})
    assert len(compare(BAR, frame(), young).differences) == 1


def test_a_bar_that_may_have_expired_itself_is_not_missed() -> None:
    assert compare(None, baseline=a_baseline(gold_gone_ms=RECEIVED_MS)) == Compared(
        unaudited={NO_GOLD: {KEY}}
    )


def test_a_window_that_only_bronze_has_is_silvers_affair() -> None:
    assert compare(None, frame()) == Compared()
