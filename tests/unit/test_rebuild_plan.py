"""Which windows a rebuild looks at, and in which portions."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from tapeline.rebuild.job import RebuildLayer, RebuildOptions
from tapeline.rebuild.plan import Hour, Plan, in_chunks
from tapeline.rebuild.progress import Progress, ProgressFile, Tally
from tapeline.rebuild.selection import Selection
from tapeline.rebuild.silver import Chunk, chunks_of
from tapeline.storage.bar_rows import StoredStart
from tapeline.storage.messages import BronzeSpan
from tapeline.storage.windows import WindowState

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
MONTH = timedelta(days=30)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def state(minutes: int, symbol: str = "X", received: datetime | None = None) -> WindowState:
    return WindowState("topic", 0, 0, at(minutes), symbol, 5, first_received_at=received)


def plan(selection: Selection, *states: WindowState, **changes: object) -> Plan:
    made = replace(Plan(selection, MONTH, at(600)), **changes)
    made.add_states(states)
    return made


@pytest.mark.parametrize(("minutes", "covered"), [(-5, False), (0, True), (55, True), (60, False)])
def test_a_selection_covers_windows_that_start_in_it(minutes, covered):
    assert Selection(NOON, at(60)).covers(("X", at(minutes))) is covered


def test_a_selection_of_symbols_covers_no_other():
    some = Selection(symbols=frozenset({"X"}))
    assert some.covers(("X", NOON))
    assert not some.covers(("Y", NOON))
    assert not some.is_everything
    assert Selection().is_everything


def test_selections_that_differ_have_names_that_differ():
    selections = [
        Selection(),
        Selection(NOON),
        Selection(None, NOON),
        Selection(symbols=frozenset({"X"})),
        Selection(symbols=frozenset({"X", "Y"})),
    ]
    assert len({s.name for s in selections}) == len(selections)
    assert (
        Selection(symbols=frozenset(["X", "Y"])).name
        == Selection(symbols=frozenset(["Y", "X"])).name
    )


def test_hours_come_oldest_first_with_the_selected_windows_of_all_that_are_known():
    #  of X   12:00 (12:05  12:10) | 13:00
    #  of A               (12:10)  |
    states = [state(60), state(10), state(0), state(5), state(10, "A")]
    made = plan(Selection(at(5), at(60)), *states)

    assert made.hours() == [
        Hour("A", NOON, frozenset({at(10)}), [at(10)]),
        Hour("X", NOON, frozenset({at(0), at(5), at(10)}), [at(5), at(10)]),
    ]


def test_a_bar_without_a_state_is_known_too():
    made = plan(Selection(), state(0))
    made.add_bars(StoredStart("X", at(m), is_final=True, policy="sip") for m in (0, 5))

    assert made.stateless == {("X", at(5))}
    assert made.hours()[0].selected == [at(0), at(5)]


def test_windows_received_longer_ago_than_silver_lives_are_left_out_and_named():
    old, new = at(600) - MONTH, at(600) - MONTH + timedelta(seconds=1)
    made = plan(Selection(), state(0, received=old), state(5, received=new), state(10))

    assert list(made.expired()) == [("X", at(0))]
    assert made.hours()[0].selected == [at(5), at(10)]
    assert made.hours()[0].known == {at(0), at(5), at(10)}


def test_the_earliest_receipt_of_a_window_counts():
    made = plan(Selection(), state(0, received=at(7)), state(0, received=at(3)), state(0))
    assert made.received == {("X", at(0)): at(3)}


def test_a_plan_may_be_limited_to_some_windows():
    made = plan(Selection(), state(0), state(5), only={("X", at(5))})
    assert made.hours()[0].selected == [at(5)]


def test_hours_stay_whole_in_chunks():
    hours = [
        Hour("X", at(60 * n), frozenset(), [at(60 * n)] * size)
        for n, size in enumerate((3, 3, 5, 9, 1))
    ]
    sizes = [[len(h.selected) for h in chunk] for chunk in in_chunks(hours, 8)]
    assert sizes == [[3, 3], [5], [9], [1]]
    assert list(in_chunks([], 8)) == []


def test_bronze_is_read_bucket_by_bucket_from_where_it_was_left():
    spans = [BronzeSpan("t", 0, 99_990, 200_005, NOON), BronzeSpan("t", 1, 0, 9, NOON)]
    assert list(chunks_of(spans, {"t/0": 100_000})) == [
        Chunk("t", 0, 100_000, 199_999),
        Chunk("t", 0, 200_000, 200_005),
        Chunk("t", 1, 0, 9),
    ]
    assert sum(c.messages for c in chunks_of(spans, {})) == 100_016 + 10


def test_a_tally_names_the_first_ten():
    tally = Tally()
    tally.add(("X", at(n)) for n in range(1_200))
    assert str(tally).startswith("X 2026-11-20T12:00, X 2026-11-20T12:01, ")
    assert str(tally).endswith(", X 2026-11-20T12:09 and 1,190 more")


def test_progress_is_read_back_as_it_was_saved(tmp_path):
    file = ProgressFile(tmp_path / "folder" / "progress.json")
    progress = Progress(started_at=NOON, offsets={"t/0": 5}, hour=(NOON, "X"), raced={("X", NOON)})
    progress.kept.add([("X", NOON)])

    file.save(progress)

    assert file.load() == progress
    assert Progress(started_at=NOON).kept.count == 0
    file.delete()
    assert file.load() is None


@pytest.mark.parametrize("text", ['{"version": 1, "started_at"', '{"version": 2}', "[]"])
def test_progress_that_is_damaged_or_of_another_version_starts_over(tmp_path, text):
    (tmp_path / "progress.json").write_text(text)
    assert ProgressFile(tmp_path / "progress.json").load() is None


@pytest.mark.parametrize(
    ("layer", "selection", "is_every_bar"),
    [
        (RebuildLayer.GOLD, Selection(), True),
        (RebuildLayer.GOLD, Selection(symbols=frozenset({"X"})), False),
        (RebuildLayer.GOLD, Selection(start=at(0)), False),
        (RebuildLayer.SILVER, Selection(), False),  # whose windows bronze still has, no others
    ],
)
def test_only_a_rebuild_of_all_bars_makes_every_bar(layer, selection, is_every_bar):
    options = RebuildOptions(layer, selection, allow_shrink=False, restart=False, any_policy=True)
    assert options.makes_every_bar is is_every_bar
