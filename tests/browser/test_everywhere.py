"""A bar is the same on the page, from the API, from Python and in Cassandra."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import tapeline
from tapeline.model.bar import Bar, Interval
from tests.market_day import Market
from tests.pipeline import Pipeline
from tests.served import ServedApi, get

from .conftest import Open

FIELDS = ("open", "high", "low", "close", "volume", "trade_count", "is_final", "revision")
Key = tuple[str, datetime]
Values = tuple[Any, ...]


def values_of(row: Mapping[str, Any]) -> Values:
    return tuple(float(row[n]) if n == "volume" else row[n] for n in FIELDS)


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


def from_cassandra(pipeline: Pipeline, keys: Iterable[Key]) -> dict[Key, Values]:
    """Ask with plain CQL, past everything of ours."""
    statement = pipeline.session.prepare(
        f"SELECT {', '.join(FIELDS)} FROM trades_gold_5m "
        "WHERE symbol = ? AND period = ? AND window_start = ?"
    )
    found = {}
    for symbol, start in keys:
        period = start.date().replace(day=1)
        row = pipeline.session.execute(statement, (symbol, period, start)).one()
        found[symbol, start] = values_of(row._asdict())
    return found


def from_elsewhere(
    pipeline: Pipeline, api: ServedApi, open_page: Open, symbols: Iterable[str]
) -> list[dict[Key, Values]]:
    """Return every bar of the symbols as the page, the API and Python have them."""
    end = datetime.now(timezone.utc) + timedelta(hours=1)
    start = end - timedelta(days=4)
    page: dict[Key, Values] = {}
    answered: dict[Key, Values] = {}
    for symbol in symbols:
        tab = open_page(f"?symbol={quote(symbol)}&interval=5m&range=5d")
        tab.wait("tapeline.bars().length > 100")
        page |= {(symbol, time_of(t)): values_of(bar) for t, bar in tab.bars().items()}
        tab.page.close()
        times = {"start": start.isoformat(), "end": end.isoformat(), "limit": 10_000}
        answer = get(f"{api.url}/v1/bars/{quote(symbol)}", params=times)
        rows = answer.json()["bars"]
        answered |= {(symbol, time_of(row["window_start"])): values_of(row) for row in rows}
    table = tapeline.read_bars(list(symbols), "5m", start, end, keyspace=pipeline.name)
    rows = table.to_pylist()
    read = {(row["symbol"], row["window_start"]): values_of(row) for row in rows}
    return [page, answered, read]


def revised(bar: Bar) -> tuple[Bar, int]:
    """Return a bar as a late trade would leave it, with a write time after the first one's."""
    now = datetime.now(timezone.utc)
    after = replace(
        bar,
        high=(bar.high or 0) + 1.25,
        trade_count=bar.trade_count + 1,
        revision=bar.revision + 1,
        updated_at=now,
    )
    return after, int(now.timestamp() * 1e6)


def test_a_thousand_random_bars_are_the_same_everywhere(
    pipeline: Pipeline, market: Market, api: ServedApi, open_page: Open
) -> None:
    choice = random.Random(1000)  # noqa: S311 - a choice, not a secret
    written = {(bar.symbol, bar.window_start): bar for bars in market.bars.values() for bar in bars}
    chosen = choice.sample(sorted(written), 1000)
    symbols = sorted({symbol for symbol, _ in chosen})

    for made_again in ([], [written[k] for k in chosen if written[k].is_final][:300]):
        pipeline.client.write_final_bars(Interval.FIVE_MINUTES, [revised(b) for b in made_again])
        stored = from_cassandra(pipeline, chosen)
        assert sum(values[-1] > 1 for values in stored.values()) >= len(made_again)
        for found in from_elsewhere(pipeline, api, open_page, symbols):
            assert {key: found[key] for key in chosen} == stored
