"""The Python of docs/python.md, as it stands there, on real parts."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tapeline
from tapeline.model.bar import Bar, Interval
from tapeline.model.times import floor_to
from tests.commands import ROOT
from tests.hand import TAPE, TRADES, hand_bars
from tests.pipeline import Pipeline
from tests.sample import a_bar, write_bars
from tests.served import served_api

DOCS = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
FIVE = Interval.FIVE_MINUTES
LENGTH = FIVE.duration


def blocks(first: str, last: str) -> list[tuple[str, str]]:
    """Return the language and text of each block from one heading to another."""
    part = DOCS[DOCS.index(first) : DOCS.index(last)]
    return re.findall(r"^```(\w*)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)


def python_of(first: str, last: str) -> Iterator[str]:
    return (text for language, text in blocks(first, last) if language == "python")


def run(code: str, names: dict[str, Any]) -> None:
    exec(compile(code, "python.md", "exec"), names)  # noqa: S102 - our own


@pytest.fixture
def hand(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tape worked by hand, in the keyspace that the examples read."""
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.finalize()
    monkeypatch.setenv("TAPELINE_CASSANDRA__KEYSPACE", pipeline.name)


@pytest.mark.usefixtures("hand")
def test_what_pandas_and_polars_make_of_the_hand_worked_bars_is_what_the_docs_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "splits.csv").write_text("symbol,effective,factor\nOTHER,2020-01-02,2\n", "utf-8")
    names: dict[str, Any] = {}
    shown = [text for language, text in blocks("## In Python", "## Live") if not language]
    first, *others = python_of("## In Python", "The columns of bars are in")
    run(first, names)
    read = names["bars"]
    for code in others:
        run(code, names)
    found = [read[READ], names["bars"][CHANGES].round(4), names["traded"].rows()]
    assert [lines(str(some)) for some in found] == [lines(text) for text in shown]
    of_hand = [bar for (symbol, _), bar in hand_bars(FIVE).items() if symbol == "TEST"]
    assert list(read["volume"]) == [float(str(bar["volume"])) for bar in of_hand]
    assert len(names["trades"]) == TRADES
    assert names["trades"]["symbol"].nunique() == 2


FIRST_MS = ["10.0 100.0", "10.0 100.0", "10.05 50.0"]
READ = ["window_start", "open", "high", "low", "close", "volume", "is_final"]
CHANGES = ["close", "volume", "change"]


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip("\n").splitlines()]


@pytest.fixture
def crossing(pipeline: Pipeline) -> list[Bar]:
    """Two days of bars of AAPL, whose closes wander, and others that a strategy leaves out."""
    wander = random.Random(1)  # noqa: S311 - a price, not a secret
    start = floor_to(LENGTH, datetime.now(timezone.utc)) - timedelta(days=2)
    close, bars = 200.0, []
    for number in range(400):
        close = round(close + wander.gauss(0, 0.5), 2)
        changes: dict[str, Any] = {"close": close, "is_complete": number % 7 != 0}
        if number % 11 == 0:
            changes["session"] = "post"
        at = start + number * LENGTH
        bars.append(a_bar(window_start=at, is_final=True, revision=1, **changes))
    write_bars(pipeline.client, *bars)
    write_bars(pipeline.client, replace(bars[100], revision=2, close=1_000.0))
    return bars


def test_the_strategy_buys_and_sells_where_pandas_finds_that_the_averages_cross(
    pipeline: Pipeline,
    crossing: list[Bar],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (strategy,) = python_of("### A strategy", "## In files")
    assert len(strategy.splitlines()) <= 36
    with served_api(pipeline.name) as api:
        monkeypatch.setattr(tapeline, "stream_bars", limited(tapeline.stream_bars, 400, api.url))
        run(strategy, {})
    told = capsys.readouterr().out.splitlines()

    usable = [
        bar
        for number, bar in enumerate(crossing)
        if bar.is_complete and bar.session == "regular" and number != 100
    ]
    closes = pd.Series([bar.close for bar in usable])
    rising = (closes.rolling(12).mean() > closes.rolling(48).mean())[47:]
    before = rising.shift(fill_value=False)
    turns = [n for n in rising.index if rising[n] != before[n]]
    assert len(turns) >= 4
    expected = [
        f"{usable[n].window_end:%Y-%m-%d %H:%M} {'buy' if rising[n] else 'sell'} at {closes[n]:.2f}"
        for n in turns
    ]
    assert [line.split(",")[0] for line in told] == expected
    sold = [n for n in turns if not rising[n]]
    profit = sum(closes[n] for n in sold) - sum(closes[n] for n in turns[: 2 * len(sold) : 2])
    last = [line for line in told if "sell" in line][-1]
    assert float(last.split("profit ")[1]) == pytest.approx(profit, abs=0.006)


@pytest.mark.usefixtures("hand")
def test_the_live_examples_print_each_bar_and_trade(
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    of_bars, of_trades, _ = python_of("## Live", "## In files")
    with served_api(pipeline.name) as api:
        for name, many in (("stream_bars", 4), ("stream_trades", 15)):
            stream = limited(getattr(tapeline, name), many, api.url)
            monkeypatch.setattr(tapeline, name, stream)
        names = {"tapeline": tapeline, "day": (datetime(2024, 3, 15, tzinfo=timezone.utc),)}
        run(of_bars.replace('["AAPL", "MSFT"]', '"TEST"'), names)
        run(of_trades.replace("AAPL", "TEST"), names)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "TEST 2024-03-15 14:30:00+00:00 10.02 1"
    of_first_ms = [f"2024-03-15 14:30:00.100000+00:00 {text} ('1',)" for text in FIRST_MS]
    assert sorted(told[4:7]) == of_first_ms
    assert len(told) == 4 + 15


def limited(stream: Callable[..., Iterable[Any]], many: int, url: str) -> Callable[..., Any]:
    """Return a stream of an API somewhere else, which ends after so many."""

    def first(*arguments: Any, **more: Any) -> Iterator[Any]:
        return islice(stream(*arguments, **more, url=url), many)

    return first
