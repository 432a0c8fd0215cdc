"""The options that say what a tape is, for every command that reads one."""

from __future__ import annotations

from typing import Annotated

import typer

from tapeline.model.errors import UsageError
from tapeline.simulator.tape_file.codes import ConditionCodes
from tapeline.simulator.tape_file.form import TapeForm, parse_columns
from tapeline.simulator.tape_file.presets import Role, TapeFormat

FormatOption = Annotated[
    TapeFormat | None,
    typer.Option("--format", help="Whose file it is; by default its columns' names tell."),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        help="Which column is what, as time=ts,symbol=ticker,price=px,size=qty,conditions=cond; by "
        "number where the file names none: time=1,price=2."
    ),
]
SymbolOption = Annotated[
    str | None, typer.Option(help="The symbol of a tape without a column for it.")
]
CodesOption = Annotated[
    ConditionCodes | None,
    typer.Option(
        help="What the conditions are: Finnhub's ids, letters of the SIPs (of both, of CTA's or of "
        "UTP's tape), or Polygon's numbers."
    ),
]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Say what was understood of the tape, and end.")
]


def tape_form(
    tape_format: TapeFormat | None,
    columns: str | None,
    symbol: str | None,
    codes: ConditionCodes | None,
) -> TapeForm:
    """Return what the options say.

    Raises:
        UsageError: one of them is not valid.
    """
    roles = parse_columns(columns or "")
    if symbol is not None and Role.SYMBOL in roles:
        message = "--symbol and a symbol in --columns say two things: leave one out."
        raise UsageError(message)
    return TapeForm(tape_format, roles, symbol, codes)
