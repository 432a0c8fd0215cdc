"""Find the schema files: inside the wheel, or beside `src/` in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def schema_text(*parts: str) -> str:
    """Return the text of a file below `schemas/`, e.g. `schema_text("avro", "trade.avsc")`."""
    packaged = _PACKAGE / "schemas"
    root = packaged if packaged.is_dir() else _PACKAGE.parents[1] / "schemas"
    return root.joinpath(*parts).read_text(encoding="utf-8")
