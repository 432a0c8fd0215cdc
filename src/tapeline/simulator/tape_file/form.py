"""What the user says about a tape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tapeline.model.errors import UsageError
from tapeline.simulator.tape_file.codes import ConditionCodes
from tapeline.simulator.tape_file.presets import Role, TapeFormat

_OUR_NAMES: Final = {"event_time_ms": Role.TIME, "volume": Role.SIZE}
"""Other names of roles in `--columns`: what our own columns are called."""


@dataclass(frozen=True, slots=True)
class TapeForm:
    """What the user says about a tape; nothing by default.

    Args:
        format: whose shape it has.
        columns: which of its columns is what, before what the shape says.
        symbol: the symbol of a tape that has no column for it.
        codes: in which codes its conditions are.
    """

    format: TapeFormat | None = None
    columns: Mapping[Role, str] = field(default_factory=dict)
    symbol: str | None = None
    codes: ConditionCodes | None = None

    def arguments(self) -> list[str]:
        """Return the options that say the same to another command."""
        named = ",".join(f"{role.value}={name}" for role, name in self.columns.items())
        given = {
            "--format": self.format and self.format.value,
            "--columns": named,
            "--symbol": self.symbol,
            "--conditions": self.codes and self.codes.value,
        }
        return [text for option, value in given.items() if value for text in (option, value)]


def parse_columns(text: str) -> dict[Role, str]:
    """Read an option such as `time=ts,price=px`.

    Raises:
        UsageError: a part of it is no pair, or names no role.
    """
    roles: dict[Role, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        target, _, source = (piece.strip() for piece in part.partition("="))
        role = _OUR_NAMES.get(target) or next((r for r in Role if r.value == target), None)
        if role is None or not source:
            known = ", ".join(r.value for r in Role)
            message = (
                f"--columns: {part!r} is not one of {known} with a column's name, as in "
                "--columns time=ts,price=px,size=qty."
            )
            raise UsageError(message)
        if role in roles:
            message = f"--columns names {role.value} twice."
            raise UsageError(message)
        roles[role] = source
    return roles
