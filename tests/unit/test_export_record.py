"""What an export remembers of its files, also when it was killed while writing that down."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from fractions import Fraction

import pytest

from tapeline.export.record import RECORD_NAME, Record
from tapeline.model.errors import UsageError
from tapeline.model.splits import Split, Splits

OPTIONS = {"kind": "bars", "interval": "5m", "format": "parquet"}
NOON = datetime(2024, 3, 15, 12, tzinfo=timezone.utc)
A, B = "date=2024-03-15/A.parquet", "date=2024-03-15/B.parquet"


def write(folder, path, text):
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_file_is_held_while_it_is_there_and_its_state_is_the_same(tmp_path):
    record = Record(tmp_path, OPTIONS)
    write(tmp_path, A, "aa")
    record.add(A, 7, "one")

    again = Record(tmp_path, OPTIONS)
    assert again.holds(A, "one")
    assert not again.holds(A, "two")
    assert not again.holds(B, "one")
    assert again.rows_of(A) == 7

    write(tmp_path, A, "cut")
    assert not again.holds(A, "one")
    (tmp_path / A).unlink()
    assert not again.holds(A, "one")
    assert again.rows_of(A) == 0


def test_an_unfinalized_day_is_never_held(tmp_path):
    record = Record(tmp_path, OPTIONS)
    write(tmp_path, A, "aa")
    record.add(A, 7, None)
    assert not record.holds(A, None)


def test_the_last_of_several_entries_counts(tmp_path):
    record = Record(tmp_path, OPTIONS)
    write(tmp_path, A, "aa")
    record.add(A, 1, "one")
    record.add(A, 2, "two")
    assert Record(tmp_path, OPTIONS).holds(A, "two")
    assert not Record(tmp_path, OPTIONS).holds(A, "one")


def test_a_line_cut_by_a_kill_is_forgotten_and_the_next_one_stands(tmp_path):
    record = Record(tmp_path, OPTIONS)
    for path in (A, B):
        write(tmp_path, path, "aa")
    record.add(A, 1, "one")
    with (tmp_path / RECORD_NAME).open("ab") as file:
        file.write(b'{"path":"date=2024-03-15/B.par')

    after = Record(tmp_path, OPTIONS)
    after.add(B, 1, "one")

    last = Record(tmp_path, OPTIONS)
    assert last.holds(A, "one")
    assert last.holds(B, "one")


def test_a_kill_before_the_first_line_was_whole_is_a_new_beginning(tmp_path):
    (tmp_path / RECORD_NAME).write_bytes(b'{"kind":')
    assert not Record(tmp_path, OPTIONS).holds(A, "one")
    assert Record(tmp_path, OPTIONS).rows_of(A) == 0


def test_a_folder_of_something_else_is_refused_in_words(tmp_path):
    bars = Record(tmp_path / "bars", OPTIONS)
    write(tmp_path / "bars", A, "aa")
    bars.add(A, 1, "one")
    with pytest.raises(UsageError, match="an export of interval 5m and not 1h: choose another"):
        Record(tmp_path / "bars", {**OPTIONS, "interval": "1h"})

    write(tmp_path, A, "not ours")
    with pytest.raises(UsageError, match="days that no export of ours wrote"):
        Record(tmp_path, OPTIONS)


def test_a_run_that_wrote_nothing_binds_nobody(tmp_path):
    Record(tmp_path, OPTIONS)
    other = Record(tmp_path, {**OPTIONS, "interval": "1h"})
    write(tmp_path, A, "aa")
    other.add(A, 1, "one")
    assert Record(tmp_path, {**OPTIONS, "interval": "1h"}).holds(A, "one")


def test_a_kill_in_or_right_after_the_first_file_is_no_obstacle(tmp_path):
    Record(tmp_path, OPTIONS)
    write(tmp_path, "date=2024-03-15/.A.parquet.part", "half")
    assert Record(tmp_path, OPTIONS).rows_of(A) == 0
    write(tmp_path, A, "aa")
    assert Record(tmp_path, OPTIONS).rows_of(A) == 0
    with pytest.raises(UsageError, match="choose another"):
        Record(tmp_path, {**OPTIONS, "interval": "1h"})


def test_a_split_that_has_come_into_effect_is_named_with_what_to_do(tmp_path):
    before = Splits.of([Split("BRK/B", NOON, Fraction(50))])
    new = [Split(name, NOON + timedelta(days=9), Fraction(4)) for name in ("AAPL", "B", "C", "D")]
    now = Splits.of([*before.every, *new])
    record = Record(tmp_path, {**OPTIONS, "splits": before.fingerprint}, before)
    write(tmp_path, A, "aa")
    record.add(A, 1, "one")

    with pytest.raises(UsageError) as refused:
        Record(tmp_path, {**OPTIONS, "splits": now.fingerprint}, now)
    assert str(refused.value) == (
        f"{tmp_path} holds bars that are not adjusted for the split of AAPL from "
        "2024-03-24T12:00:00Z on, B from 2024-03-24T12:00:00Z on, C from 2024-03-24T12:00:00Z on "
        "and 1 more, which has come into effect since, or was added: that changes all bars before "
        "it. Export everything again, into another folder."
    )
    with pytest.raises(UsageError, match="an export of interval 5m and not 1h, splits"):
        Record(tmp_path, {**OPTIONS, "interval": "1h", "splits": now.fingerprint}, now)
