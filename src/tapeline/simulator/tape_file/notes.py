"""What was understood of a tape, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tapeline.model.symbols import some_of
from tapeline.model.texts import counted
from tapeline.model.times import from_millis, iso
from tapeline.simulator.tape_file.cells import one_line
from tapeline.simulator.tape_file.codes import ConditionCodes
from tapeline.simulator.tape_file.conditions import ConditionCounts
from tapeline.simulator.tape_file.presets import Role, TapeFormat


@dataclass(frozen=True, slots=True)
class Steps:
    """Trades that are older than one before them: how many, and by how much at most."""

    trades: int
    most_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeNotes:
    """What a tape holds and how it was read."""

    path: Path
    kind: str
    format: TapeFormat
    is_recognised: bool
    trades: int
    symbols: tuple[str, ...]
    first_ms: int
    last_ms: int
    times: str
    used: Mapping[Role, str]
    ignored: tuple[str, ...]
    codes: ConditionCodes
    conditions: ConditionCounts
    back: Steps
    remarks: tuple[str, ...]

    def title(self) -> str:
        """Return how much there is."""
        trades, symbols = counted(self.trades, "trade"), counted(len(self.symbols), "symbol")
        return f"{trades} of {symbols} in {self.path}"

    def in_short(self) -> list[str]:
        """Return what a reader should know before the tape is played."""
        lines = [self._span() + f" Times are {self.times}."]
        if self.is_recognised:
            lines.append(f"Read as {self._form()}.")
        if self.back.trades:
            lines.append(self._order())
        return [*lines, *self.remarks, *self.unknown_conditions()]

    def in_full(self) -> list[str]:
        """Return all that was understood."""
        used = ", ".join(f"{role.value}: {one_line(name)}" for role, name in self.used.items())
        lines = [
            f"File: {self.kind}, read as {self._form()}.",
            self._span(),
            f"Symbols: {some_of(self.symbols)}.",
            f"Times: {self.times}.",
            f"Columns used: {used}; ignored: {one_line(', '.join(self.ignored)) or 'none'}.",
            self._known_conditions(),
            *self.unknown_conditions(),
            self._order(),
        ]
        return [*lines, *self.remarks]

    def unknown_conditions(self) -> list[str]:
        """Return one sentence if conditions have no rule, none otherwise."""
        unknown = self.conditions.unknown
        lines = []
        if unknown:
            lines.append(
                f"Conditions without a rule, kept as they are, whose trades set no price unless "
                f"the policy is all: {_counts(unknown)}."
            )
        if self.conditions.ambiguous:
            lines.append(
                f"Trades with condition B: {self.conditions.ambiguous:,}. It is read as UTP's "
                "bunched trade; on the CTA's tape it is an average price: --conditions cta."
            )
        return lines

    def _form(self) -> str:
        if self.format is TapeFormat.TAPELINE:
            return "trades"
        return f"{self.format.value}'s trades" + (
            ", by the names of its columns" if self.is_recognised else ""
        )

    def _span(self) -> str:
        first, last = (iso(from_millis(ms)) for ms in (self.first_ms, self.last_ms))
        return f"From {first} to {last}."

    def _known_conditions(self) -> str:
        if Role.CONDITIONS not in self.used:
            return "Conditions: no column; every trade counts as regular."
        known = _counts(self.conditions.known) or "none"
        if self.codes is ConditionCodes.FINNHUB:
            return f"Conditions: {known}."
        return f"Conditions, from {self.codes.value} codes to Finnhub's ids: {known}."

    def _order(self) -> str:
        if not self.back.trades:
            return "Order: no trade is older than one before it."
        return (
            f"Order: trades that are older than one before them: {self.back.trades:,}, by "
            f"{self.back.most_ms / 1000:,.3f} s at most."
        )


def _counts(counter: Mapping[str, int]) -> str:
    most = sorted(counter.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{one_line(one)} ({count:,})" for one, count in most[:20])
    more = len(most) - 20
    return f"{shown} and {more} more" if more > 0 else shown
