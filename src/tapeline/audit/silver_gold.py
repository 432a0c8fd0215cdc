"""Silver against gold: every window with trades has its bar, and final bars their values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import pyarrow as pa

from tapeline.audit.context import Baseline
from tapeline.audit.findings import (
    NO_GOLD,
    NO_SILVER,
    NO_TOPIC,
    Compared,
    Difference,
    Pair,
    text_of,
)
from tapeline.audit.recompute import recompute_bars
from tapeline.audit.tables import is_gone, query, window_key
from tapeline.model.bar import VALUES, Bar, Interval, WindowKey
from tapeline.model.conditions import SHIPPED
from tapeline.model.rules import Rules
from tapeline.model.times import to_millis

_COUNTS: Final = """
    SELECT symbol, bucket_ms, count(*) AS trades, min(received_at_ms) AS first_received_ms
    FROM silver GROUP BY ALL
"""


def compare_bars(
    windows: Iterable[WindowKey],
    bars: Mapping[WindowKey, Bar],
    silver: pa.Table,
    baseline: Baseline,
    moving: Collection[WindowKey] = frozenset(),
    rules: Mapping[str, Rules] = SHIPPED,
) -> Compared:
    """Compare the five-minute bars of some windows with what their trades make.

    Args:
        windows: every window of which bronze, silver or gold has anything.
        bars: those that are stored, read before the trades.
        silver: every row of the windows, columns as TRADES.
        baseline: says which windows can be compared.
        moving: windows that got a trade after the audit had begun.
        rules: those that are known, by the policy of a bar.
    """
    found = Compared()
    silver_gone_ms = baseline.gone_ms["trades_silver"]
    gold_gone_ms = baseline.gone_ms["trades_gold_5m"]
    counts = {
        window_key(row["symbol"], row["bucket_ms"]): (row["trades"], row["first_received_ms"])
        for row in query(_COUNTS, silver=silver).to_pylist()
    }
    comparable: dict[WindowKey, Bar] = {}
    for key in windows:
        bar = bars.get(key)
        trades, first_received_ms = counts.get(key, (0, None))
        if bar is None and not trades:
            continue  # only bronze has it, and silver against bronze has said so
        is_bare = bar is not None and not bar.is_final and not trades
        if key in baseline.due or key in moving or (is_bare and key not in baseline.gone):
            found.not_yet += 1
        elif key in baseline.gone:
            found.unaudited[NO_TOPIC].add(key)
        elif bar is not None and _has_lost_trades(bar, first_received_ms, silver_gone_ms):
            found.unaudited[NO_SILVER].add(key)
        elif bar is None and is_gone(first_received_ms, gold_gone_ms):
            found.unaudited[NO_GOLD].add(key)
        else:
            found.checked += 1
            difference = _existence(key, bar, trades, rules)
            if difference is not None:
                found.differences.append(difference)
            elif bar is not None:
                comparable[key] = bar
    policies = {key: rules[bar.policy or ""] for key, bar in comparable.items()}
    expected = recompute_bars(silver, policies)
    for key, bar in comparable.items():
        found.differences += differing_values(
            Pair.SILVER_GOLD, bar, expected.get(key, {}), Interval.FIVE_MINUTES
        )
    return found


def differing_values(
    pair: Pair, bar: Bar, expected: Mapping[str, Any], interval: Interval
) -> Iterator[Difference]:
    """Yield each field of a stored bar that its trades or parts determine otherwise."""
    for name in VALUES:
        if getattr(bar, name) != expected.get(name):
            yield Difference(
                pair=pair,
                what=name,
                expected=text_of(expected.get(name)),
                found=text_of(getattr(bar, name)),
                symbol=bar.symbol,
                window_start=bar.window_start,
                interval=interval,
            )


def missing_or_provisional(
    pair: Pair, key: WindowKey, bar: Bar | None, interval: Interval
) -> Difference | None:
    """Return the difference of a bar that must be final and is not, or is not there."""
    if bar is not None and bar.is_final:
        return None
    return Difference(
        pair=pair,
        what="bar",
        expected="final",
        found="none" if bar is None else "provisional, and no finalizing is due",
        symbol=key[0],
        window_start=key[1],
        interval=interval,
    )


def _existence(
    key: WindowKey, bar: Bar | None, trades: int, rules: Mapping[str, Rules]
) -> Difference | None:
    if not trades:
        return _about(key, "none: silver has no trade of it", "in gold")
    if bar is not None and bar.policy not in rules:
        return _about(key, " or ".join(sorted(rules)), text_of(bar.policy), "policy")
    return missing_or_provisional(Pair.SILVER_GOLD, key, bar, Interval.FIVE_MINUTES)


def _about(key: WindowKey, expected: str, found: str, what: str = "bar") -> Difference:
    return Difference(
        pair=Pair.SILVER_GOLD,
        what=what,
        expected=expected,
        found=found,
        symbol=key[0],
        window_start=key[1],
    )


def _has_lost_trades(bar: Bar, first_received_ms: int | None, gone_ms: int | None) -> bool:
    """Return whether silver may have expired trades of a bar, by the first that was received."""
    return is_gone(first_received_ms, gone_ms) or is_gone(received_ms(bar), gone_ms)


def received_ms(bar: Bar) -> int | None:
    """Return when the first trade of a bar was received, if the bar says so."""
    return None if bar.first_received_at is None else to_millis(bar.first_received_at)
