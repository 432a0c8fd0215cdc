"""From a column of sale conditions, in whatever codes and form, to Finnhub's ids joined by `|`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tapeline.model.conditions import KNOWN
from tapeline.simulator.tape_file.codes import (
    AMBIGUOUS,
    CTA_LETTERS,
    POLYGON_NUMBERS,
    SIP_LETTERS,
    ConditionCodes,
)

_BETWEEN: Final = re.compile(r"[\s|,;\[\]'\"]+")
"""What separates conditions, lists as other programs print them among it."""
_PLANS: Final = {"A": ConditionCodes.CTA, "B": ConditionCodes.CTA, "C": ConditionCodes.UTP}
_LETTERS: Final = {
    ConditionCodes.SIP: SIP_LETTERS,
    ConditionCodes.CTA: CTA_LETTERS,
    ConditionCodes.UTP: SIP_LETTERS,
}


@dataclass(frozen=True, slots=True)
class ConditionCounts:
    """How many trades have each condition: those with a rule, and those without one.

    `ambiguous` counts trades with a letter that the CTA and UTP use for different things, read as
    UTP's.
    """

    known: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    ambiguous: int = 0


def finnhub_conditions(
    values: pa.ChunkedArray, codes: ConditionCodes, plans: pa.ChunkedArray | None = None
) -> tuple[pa.ChunkedArray, ConditionCounts]:
    """Return ids joined by `|`, null for none, and how many trades have which.

    Args:
        values: texts, numbers or lists of either.
        codes: what they are.
        plans: where the symbol is listed, for `ConditionCodes.SIP`: it decides which plan's letters
            the row has.
    """
    texts = pc.fill_null(_texts(values), "")
    if plans is not None and codes is ConditionCodes.SIP:
        plans = pc.utf8_trim_whitespace(pc.fill_null(plans.cast(pa.string()), ""))
        texts = pc.binary_join_element_wise(plans, texts, "\n")
    else:
        texts = pc.binary_join_element_wise("", texts, "\n")
    encoded = texts.combine_chunks().dictionary_encode()
    counts = ConditionCounts()
    rows = {pair["values"]: pair["counts"] for pair in encoded.indices.value_counts().to_pylist()}
    ids: list[str | None] = []
    for index, text in enumerate(encoded.dictionary.to_pylist()):
        plan, _, given = text.partition("\n")
        row_codes = _PLANS.get(plan, codes) if codes is ConditionCodes.SIP else codes
        found = list(_ids(given, row_codes))
        ids.append("|".join(found) or None)
        _count(counts, found, rows[index])
        if row_codes is ConditionCodes.SIP and AMBIGUOUS in given:
            counts = ConditionCounts(counts.known, counts.unknown, counts.ambiguous + rows[index])
    coded = pa.array(ids, pa.string()).take(encoded.indices)
    return pa.chunked_array([coded]), counts


def _texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _texts(values.cast(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pc.binary_join(values.cast(pa.list_(pa.string())), "|")
    return values.cast(pa.string())


def _count(counts: ConditionCounts, ids: list[str], rows: int) -> None:
    for one in dict.fromkeys(ids):
        (counts.known if one in KNOWN else counts.unknown)[one] += rows


def _ids(text: str, codes: ConditionCodes) -> Iterator[str]:
    """Yield the ids of one row; a code without one stays as it is.

    A number of another list is no id of Finnhub's, so it says where it is from.
    """
    for word in filter(None, _BETWEEN.split(text)):
        token = word.removesuffix(".0")  # a number that another program took for a fraction
        if codes in _LETTERS:
            for letter in word:
                other = f"sip-{letter}" if letter.isdigit() else letter
                yield _LETTERS[codes].get(letter, other)
        elif codes is ConditionCodes.POLYGON:
            other = f"polygon-{token}" if token.isdigit() else token
            yield POLYGON_NUMBERS.get(token, other)
        else:
            yield token
