"""Which column of a tape is what: by its names, by a vendor's shape, or as the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tapeline.model.columns import named_twice
from tapeline.model.errors import TapeError
from tapeline.simulator.tape_file.cells import one_line
from tapeline.simulator.tape_file.content import Content
from tapeline.simulator.tape_file.form import TapeForm
from tapeline.simulator.tape_file.presets import (
    PRESETS,
    REQUIRED,
    Preset,
    Role,
    Shape,
    TapeFormat,
)


@dataclass(frozen=True, slots=True)
class Columns:
    """What was found: the shape, and where each role is among the file's columns."""

    format: TapeFormat
    shape: Shape
    is_recognised: bool
    """Whether the format was not named."""
    names: tuple[str, ...]
    """All columns in the file's order, by the shape where the file does not name them."""
    positions: Mapping[Role, int]

    @property
    def preset(self) -> Preset:
        """The vendor's."""
        return PRESETS[self.format]


def known_names(form: TapeForm) -> list[frozenset[str]]:
    """Return sets of names of which a file that is a tape has one whole."""
    shapes = [shape for preset in PRESETS.values() for shape in preset.shapes]
    own = [frozenset(form.columns.values())] if form.columns else []
    return own + [frozenset(shape.names) for shape in shapes if shape.is_known_by_names]


def find_columns(content: Content, form: TapeForm, path: Path) -> Columns:
    """Return which column is what.

    Raises:
        TapeError: a column is missing or there twice, or nothing tells which is which.
    """
    found = _shape_of(content, form, path)
    names = _names_in(content, found[1]) if found else content.names
    told: dict[Role, str] = {**(found[1].roles if found else {}), **form.columns}
    if form.symbol is not None and form.columns.get(Role.SYMBOL) is None:
        _refuse_two_symbols(told, names, path)
    positions = {}
    for role, name in told.items():
        if name in names:
            positions[role] = names.index(name)
        elif role in form.columns:
            message = f"--columns: {path} has no column {name}; it has {_list_of(names)}."
            raise TapeError(message)
    _require_roles(positions, form, names, content, path)
    if twice := named_twice(n for n in names if n in {names[i] for i in positions.values()}):
        message = f"{path} is no tape: it has column {one_line(twice)} twice."
        raise TapeError(message)
    tape_format, shape, is_recognised = found or (
        TapeFormat.TAPELINE,
        PRESETS[TapeFormat.TAPELINE].shapes[0],
        False,
    )
    return Columns(tape_format, shape, is_recognised, names, positions)


def _shape_of(
    content: Content, form: TapeForm, path: Path
) -> tuple[TapeFormat, Shape, bool] | None:
    """Return the format's shape that the file has; without a format, the only one it can have."""
    if form.format is not None:
        shapes = PRESETS[form.format].shapes
        for shape in shapes:
            if _has_shape(content, shape, form):
                return form.format, shape, False
        message = (
            f"{path} is no tape in format {form.format.value}: {_what_it_has(content)}, and the "
            f"format has {' or '.join(','.join(shape.names) for shape in shapes)}."
        )
        raise TapeError(message)
    if content.first_values is not None:
        return None
    names = set(content.names)
    own = PRESETS[TapeFormat.TAPELINE].shapes[0]
    if names >= set(own.names):
        return TapeFormat.TAPELINE, own, False
    found = [
        (tape_format, shape)
        for tape_format, preset in PRESETS.items()
        for shape in preset.shapes
        if shape.is_known_by_names and names >= set(shape.names)
    ]
    if len({tape_format for tape_format, _ in found}) == 1:
        # Of two shapes of which one has all columns of the other, the larger is meant.
        tape_format, shape = max(found, key=lambda one: len(one[1].names))
        return tape_format, shape, True
    return TapeFormat.TAPELINE, own, False


def _has_shape(content: Content, shape: Shape, form: TapeForm) -> bool:
    if content.first_values is None:
        needed = {shape.roles[role] for role in REQUIRED if role in shape.roles}
        told = {shape.roles[role] for role in form.columns if role in shape.roles}
        symbol = {shape.roles.get(Role.SYMBOL, "")}
        return set(content.names) >= needed - told - symbol
    if not shape.may_lack_names or len(content.first_values) != len(shape.names):
        return False
    time = content.first_values[shape.names.index(shape.roles[Role.TIME])]
    return re.fullmatch(shape.first_time, time) is not None


def _names_in(content: Content, shape: Shape) -> tuple[str, ...]:
    return content.names if content.first_values is None else shape.names


def _refuse_two_symbols(told: dict[Role, str], names: tuple[str, ...], path: Path) -> None:
    if told.pop(Role.SYMBOL, None) in names:
        message = f"--symbol is for a tape without a column of symbols, and {path} has one."
        raise TapeError(message)


def _require_roles(
    positions: Mapping[Role, int],
    form: TapeForm,
    names: tuple[str, ...],
    content: Content,
    path: Path,
) -> None:
    missing = [role for role in REQUIRED if role not in positions]
    if form.symbol is not None and Role.SYMBOL in missing:
        missing.remove(Role.SYMBOL)
    if missing == [Role.SYMBOL]:
        message = (
            f"{path} has no column of symbols: name its symbol, as --symbol BINANCE:BTCUSDT, or "
            "its column, as --columns symbol=ticker."
        )
        raise TapeError(message)
    if not missing:
        return
    if content.first_values is not None and not form.columns:
        message = (
            f"{path} is no tape as it is: its first row holds values, not names: "
            f"{one_line(','.join(content.first_values))}. Name whose it is, as --format binance or "
            "--format kraken, or say which column is which by its number, as --columns "
            "time=1,symbol=2,price=3,size=4."
        )
        raise TapeError(message)
    roles = PRESETS[TapeFormat.TAPELINE].shapes[0].roles
    lacks = ", ".join(roles[role] for role in missing)
    example = ",".join(f"{role.value}=…" for role in missing)
    message = (
        f"{path} is no tape as it is: it has no column {lacks}; it has {_list_of(names)}. Say "
        f"which column is which, as --columns {example}, or whose the tape is with --format."
    )
    raise TapeError(message)


def _what_it_has(content: Content) -> str:
    if content.first_values is not None:
        return f"it has no names, and its first row is {one_line(','.join(content.first_values))}"
    return f"it has {_list_of(content.names)}"


def _list_of(names: tuple[str, ...]) -> str:
    return one_line(", ".join(name or "''" for name in names)) or "none"
