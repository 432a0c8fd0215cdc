"""Sale conditions of other vendors and programs, as Finnhub's ids."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapeline.simulator.tape import Tape
from tapeline.simulator.tape_file.codes import ConditionCodes
from tapeline.simulator.tape_file.form import TapeForm


def tape_of(folder: Path, codes: ConditionCodes | None, *conditions: str) -> Tape:
    path = folder / "tape.csv"
    rows = [f'{1_710_513_000_100 + n},SPY,512.10,100,"{text}"' for n, text in enumerate(conditions)]
    path.write_text("\n".join(["event_time_ms,symbol,price,volume,conditions", *rows]))
    return Tape(path, 100, TapeForm(codes=codes))


def read(folder: Path, codes: ConditionCodes | None, *conditions: str) -> list[list[str] | None]:
    tape = tape_of(folder, codes, *conditions)
    return [trade["c"] for frame in tape.frames(0) for trade in frame.trades]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("1 | 12", ["1", "12"]),
        (" ", None),
        ("", None),
        ("12,37", ["12", "37"]),
        ("12, 37", ["12", "37"]),
        ("1 12", ["1", "12"]),
        ("|1|", ["1"]),
        (" | ", None),
        ("[1, 12]", ["1", "12"]),  # a list as pandas prints it
        ("['1', '12']", ["1", "12"]),
        ("[]", None),
        ("12.0", ["12"]),  # a whole number in a column with gaps
        ("1|99", ["1", "99"]),
    ],
)
def test_ids_may_be_separated_by_bars_blanks_and_commas(tmp_path, text, ids):
    assert read(tmp_path, None, text, "1") == [ids, ["1"]]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("@F I", ["1", "8", "12"]),  # four positions: regular, sweep, odd lot
        ("@  T", ["1", "24"]),
        (" F I", ["8", "12"]),
        ("@,T,I", ["1", "24", "12"]),
        ("@|6", ["1", "36"]),
        ("['@', '4', 'W']", ["1", "32", "3"]),
        ("    ", None),
        ("M", ["16"]),
        ("Q", ["20"]),
        ("9", ["39"]),
        ("Z", ["30"]),
        ("J", ["J"]),  # no letter of either plan
        ("@2", ["1", "sip-2"]),  # Finnhub's 2 would be an acquisition, a regular trade
    ],
)
def test_letters_of_the_sips_become_the_ids_of_the_same_names(tmp_path, text, ids):
    assert read(tmp_path, ConditionCodes.SIP, text) == [ids]


@pytest.mark.parametrize(
    ("codes", "b"),
    [(ConditionCodes.CTA, "3"), (ConditionCodes.UTP, "4"), (ConditionCodes.SIP, "4")],
)
def test_b_is_an_average_price_on_the_ctas_tape_and_bunched_on_utps(tmp_path, codes, b):
    tape = tape_of(tmp_path, codes, "@  B", "@", "B")
    assert [t["c"] for f in tape.frames(0) for t in f.trades] == [["1", b], ["1"], [b]]
    doubt = "Trades with condition B: 2. It is read as UTP's bunched trade"
    assert (doubt in " ".join(tape.notes.in_short())) == (codes is ConditionCodes.SIP)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("12,37", ["24", "12"]),  # Polygon's form T and odd lot
        ("14 41", ["8", "41"]),
        ("2", ["3"]),
        ("37.0", ["12"]),
        ("209", ["polygon-209"]),  # an option's
        ("31", ["polygon-31"]),  # Finnhub's 31 would be a regular trade
    ],
)
def test_numbers_of_polygon_become_the_ids_of_the_same_names(tmp_path, text, ids):
    assert read(tmp_path, ConditionCodes.POLYGON, text) == [ids]


def test_conditions_without_a_rule_are_kept_and_counted_by_trade(tmp_path):
    notes = tape_of(tmp_path, None, "1|99", "99|99", "12", "X", " ").notes
    assert notes.conditions.known == {"1": 1, "12": 1}
    assert notes.conditions.unknown == {"99": 2, "X": 1}
    (sentence,) = notes.unknown_conditions()
    assert sentence.endswith("unless the policy is all: 99 (2), X (1).")
    assert sentence in notes.in_short()
    assert sentence in notes.in_full()


def test_a_tape_of_known_conditions_has_nothing_to_say(tmp_path):
    assert tape_of(tmp_path, None, "1|12", "24", "").notes.unknown_conditions() == []


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([["@", "I"], [" "], None]), [["1", "12"], None, None]),
        (pa.array(["@F I", None, ""]), [["1", "8", "12"], None, None]),
        (pa.array(["@", "@", "I"]).dictionary_encode(), [["1"], ["1"], ["12"]]),
    ],
)
def test_parquet_conditions_may_be_texts_or_lists(tmp_path, column, expected):
    path = tmp_path / "tape.parquet"
    times = [1_710_513_000_100 + n for n in range(3)]
    names = {"event_time_ms": times, "symbol": ["A"] * 3, "price": [1.0] * 3, "volume": [1.0] * 3}
    pq.write_table(pa.table({**names, "conditions": column}), path)
    tape = Tape(path, 100, TapeForm(codes=ConditionCodes.SIP))
    assert [t["c"] for f in tape.frames(0) for t in f.trades] == expected


def test_parquet_conditions_may_be_numbers(tmp_path):
    path = tmp_path / "tape.parquet"
    names = {"event_time_ms": [1_710_513_000_100] * 2, "symbol": ["A"] * 2, "price": [1.0] * 2}
    names |= {"volume": [1.0] * 2, "conditions": pa.array([12.0, None])}
    pq.write_table(pa.table(names), path)
    assert [t["c"] for f in Tape(path, 100).frames(0) for t in f.trades] == [["12"], None]
