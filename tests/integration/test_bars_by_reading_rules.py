"""Bars of a policy that says how they are read, from every place where they can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tapeline.model.bar import Bar, Interval
from tapeline.model.conditions import SIP
from tapeline.model.gap import Gap, GapKind
from tapeline.model.rollup import combined
from tapeline.model.rules import PLAIN
from tapeline.model.times import floor_to, to_micros
from tapeline.program.rule_file import read_policy
from tapeline.read.bars import read_bars
from tests.commands import TIMEOUT_S
from tests.hand_worked_days import BARS, FRIDAY, THURSDAY
from tests.pipeline import Pipeline
from tests.rule_files import LAST_CLOSE, ROUND_LOTS
from tests.sample import a_bar, write_bars
from tests.served import ServedApi, get, listening, served_api, until

POLICY = read_policy(str(LAST_CLOSE))
FIVE, HOUR = timedelta(minutes=5), timedelta(hours=1)
FINAL = {"is_final": True, "is_complete": True, "revision": 1, "policy": POLICY.name}
WHOLE = THURSDAY, FRIDAY + timedelta(days=2)

# Open, high, low, close and volume by hand, see tests/hand_worked_days.py.
OPENED = {
    "5m": [
        (100.0, 102.0, 99.0, 101.0, 10),
        (101.0, 104.0, 101.0, 104.0, 5),
        (104.0, 105.0, 104.0, 105.0, 2),
        (105.0, 107.0, 105.0, 106.5, 20),
        (106.5, 106.5, 106.5, 106.5, 3),
        (106.5, 109.0, 106.5, 108.5, 7),
        (108.5, 110.0, 108.5, 110.0, 4),
    ],
    "1h": [
        (100.0, 102.0, 99.0, 101.0, 10),
        (101.0, 104.0, 101.0, 104.0, 5),
        (104.0, 109.0, 104.0, 108.5, 32),
        (108.5, 110.0, 108.5, 110.0, 4),
    ],
    "1d": [(100.0, 102.0, 99.0, 101.0, 15), (101.0, 109.0, 101.0, 108.5, 36)],
}
REGULAR = {
    "5m": [OPENED["5m"][0], (101.0, 107.0, 101.0, 106.5, 20), *OPENED["5m"][4:6]],
    "1d": [(100.0, 102.0, 99.0, 101.0, 10), (101.0, 109.0, 101.0, 108.5, 30)],
}


@pytest.fixture
def stored(pipeline: Pipeline) -> Pipeline:
    """The bars of both days, final, and their hours."""
    client = pipeline.client
    client.claim_policy(POLICY)
    bars = [replace(bar, **FINAL) for bar in BARS]
    hours: dict[datetime, list[Bar]] = {}
    for bar in bars:
        hours.setdefault(floor_to(HOUR, bar.window_start), []).append(bar)
    client.write_bars(Interval.FIVE_MINUTES, [(bar, 10) for bar in bars])
    made = [replace(combined(parts, at, at + HOUR), **FINAL) for at, parts in hours.items()]
    client.write_bars(Interval.ONE_HOUR, [(bar, 10) for bar in made])
    return pipeline


@pytest.fixture
def api(stored: Pipeline) -> Iterator[ServedApi]:
    """An API that has the file of rules too: the live view makes bars by it."""
    with served_api(stored.name, {"TAPELINE_STREAM__POLICY": str(LAST_CLOSE)}) as api:
        yield api


def rows(bars: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (*(bar[name] for name in ("open", "high", "low", "close")), float(bar["volume"]))
        for bar in bars
    ]


def read(pipeline: Pipeline, interval: str, start: datetime, end: datetime, **options: Any) -> Any:
    # Whoever reads has other rules in the settings, and no file.
    found = read_bars("AAPL", interval, start, end, settings=pipeline.settings, **options)
    return rows(found.to_pylist())


def test_they_are_read_by_the_rules_that_the_keyspace_keeps(stored: Pipeline) -> None:
    for interval, values in OPENED.items():
        assert read(stored, interval, *WHOLE) == values
    for interval, values in REGULAR.items():
        assert read(stored, interval, *WHOLE, session="regular") == values
    assert stored.client.reading_rules(POLICY.name) == POLICY.reading
    assert stored.client.reading_rules("another@0123456789") == PLAIN


def test_a_read_from_any_time_on_gives_the_same(stored: Pipeline) -> None:
    for number, bar in enumerate(BARS):
        assert read(stored, "5m", bar.window_start, WHOLE[1]) == OPENED["5m"][number:]
    assert read(stored, "1d", FRIDAY, WHOLE[1]) == OPENED["1d"][1:]
    assert read(stored, "1d", FRIDAY.replace(hour=14, minute=30), WHOLE[1]) == OPENED["1d"][1:]
    # Two years later: what lies between does not matter.
    late = a_bar(window_start=FRIDAY.replace(year=2028, hour=15), close=120.0, **FINAL)
    stored.client.write_bars(Interval.FIVE_MINUTES, [(late, 10)])
    found = read(stored, "5m", late.window_start, late.window_end)
    assert found == [(110.0, 110.0, 0.5, 120.0, 10.5)]


def test_days_do_not_depend_on_where_a_read_begins_while_the_policy_changes(
    stored: Pipeline,
) -> None:
    stored.client.write_policy(SIP)
    for start in (FRIDAY, FRIDAY.replace(hour=14, minute=30)):
        assert read(stored, "1d", start, WHOLE[1]) == OPENED["1d"][1:]


def test_a_gap_between_bars_of_two_policies_leaves_the_later_one_unknown(stored: Pipeline) -> None:
    plain = replace(BARS[3], **{**FINAL, "policy": "sip"})
    stored.client.write_bars(Interval.FIVE_MINUTES, [(plain, 20)])
    last = a_bar(window_start=FRIDAY.replace(hour=15), **FINAL)
    stored.client.write_bars(Interval.FIVE_MINUTES, [(last, 20)])
    span = (to_micros(FRIDAY.replace(hour=14, minute=50)),) * 2
    gap = Gap("p", stored.topic_id, "id", GapKind.SILENT, ("AAPL",), *span, span[0])
    stored.client.write_gaps([gap])
    for start in (plain.window_start, last.window_start):
        table = read_bars("AAPL", "5m", start, last.window_end, settings=stored.settings)
        assert table["is_complete"].to_pylist()[-1] is None


def test_a_bar_before_that_is_revised_is_a_revision_of_the_next(stored: Pipeline) -> None:
    changed = replace(BARS[3], close=200.0, **{**FINAL, "revision": 2, "reason": "late_trade"})
    stored.client.write_bars(Interval.FIVE_MINUTES, [(changed, 20)])
    table = read_bars("AAPL", "5m", FRIDAY, WHOLE[1], settings=stored.settings, detail=True)
    found = [(bar["open"], bar["revision"], bar["reason"]) for bar in table.to_pylist()]
    assert found[1:] == [
        (105.0, 2, "late_trade"),
        (200.0, 2, "late_trade"),
        (200.0, 2, "late_trade"),
        (108.5, 1, None),
    ]


def test_bars_of_other_rules_in_the_same_keyspace_are_read_by_theirs(stored: Pipeline) -> None:
    stored.client.write_reading_rules(read_policy(str(ROUND_LOTS)))
    plain = replace(BARS[5], **{**FINAL, "policy": read_policy(str(ROUND_LOTS)).name})
    stored.client.write_bars(Interval.FIVE_MINUTES, [(plain, 20)])
    found = read(stored, "5m", FRIDAY, WHOLE[1])
    assert found[3:] == [(108.0, 109.0, 108.0, 108.5, 7), OPENED["5m"][6]]


def test_the_api_answers_the_same(stored: Pipeline, api: ServedApi) -> None:
    del stored
    span = {"start": WHOLE[0].isoformat(), "end": WHOLE[1].isoformat()}
    for interval, values in OPENED.items():
        query = {**span, "interval": interval}
        bars = get(f"{api.url}/v1/bars/AAPL", params=query).json()["bars"]
        assert rows(bars) == values
        pages, cursor = [], {}
        while cursor is not None:
            answer = get(
                f"{api.url}/v1/bars", params={**query, "symbols": "AAPL", "limit": 2, **cursor}
            ).json()
            pages += answer["bars"]
            cursor = {"cursor": answer["next_cursor"]} if answer["next_cursor"] else None
        assert rows(pages) == values


def test_listeners_hear_the_same(stored: Pipeline, api: ServedApi) -> None:
    now = datetime.now(timezone.utc)
    while now - floor_to(FIVE, now) > FIVE - timedelta(seconds=60):
        now += timedelta(seconds=1)
        asyncio.run(asyncio.sleep(1))
    present = floor_to(FIVE, datetime.now(timezone.utc))
    long_ago = a_bar(window_start=present - timedelta(days=3), close=50.0, **FINAL)
    before = a_bar(window_start=present - FIVE, open=None, high=None, low=None, close=None, **FINAL)
    bar = a_bar(window_start=present, open=52.0, low=52.0, high=53.0, close=53.0, **PROVISIONAL)
    write_bars(stored.client, long_ago, before)

    async def listen() -> list[tuple[Any, ...]]:
        heard_bars = []
        async with listening(api.url, "AAPL") as heard:
            first = await until(heard, "bar", lambda b: b["window_start"] == text(before))
            heard_bars.append(first)
            write_bars(stored.client, bar)
            heard_bars.append(await until(heard, "bar", lambda b: b["window_start"] == text(bar)))
            newest = await asyncio.to_thread(
                get, f"{api.url}/v1/bars/latest", params={"symbols": "AAPL"}
            )
            heard_bars += newest.json()["bars"]
            # Of three days ago: what stands between has no close of its own.
            revised = replace(long_ago, close=40.0, revision=2)
            write_bars(stored.client, revised)
            for changed, opens in ((revised, 110.0), (before, 40.0), (bar, 40.0)):
                key = text(changed)
                heard_bars.append(
                    await until(
                        heard,
                        "bar",
                        lambda b, k=key, o=opens: (b["window_start"], b["open"]) == (k, o),
                    )
                )
            # A late trade gives the bar before a close: the present one opens there from now on.
            late = replace(before, open=51.0, high=51.0, low=51.0, close=51.0, revision=2)
            write_bars(stored.client, late)
            heard_bars.append(await until(heard, "bar", lambda b: b["close"] == 51.0))
            heard_bars.append(await until(heard, "bar", lambda b: b["window_start"] == text(bar)))
        return [row[:4] for row in rows(heard_bars)]

    assert asyncio.run(asyncio.wait_for(listen(), TIMEOUT_S)) == [
        (50.0, 50.0, 50.0, 50.0),
        (50.0, 53.0, 50.0, 53.0),
        (50.0, 53.0, 50.0, 53.0),
        (110.0, 110.0, 0.5, 40.0),
        (40.0, 40.0, 40.0, 40.0),
        (40.0, 53.0, 40.0, 53.0),
        (40.0, 51.0, 40.0, 51.0),
        (51.0, 53.0, 51.0, 53.0),
    ]


PROVISIONAL = {"policy": POLICY.name}


def text(bar: Bar) -> str:
    return f"{bar.window_start:%Y-%m-%dT%H:%M:%S}Z"
