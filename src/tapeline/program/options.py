"""Options that commands of several rooms take alike, refused before a command begins.

Where a folder may not be looked into, `os.path` says that nothing is there; pathlib raises.
"""
# ruff: noqa: PTH110, PTH112, PTH113

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from tapeline.program.setting_types import LAST_PORT, LONGEST_S

_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/.*")
LARGEST: Final = 1_000_000_000
"""More than any number of things that a command is asked for."""


def _valid_host(text: str) -> str:
    if not text or re.search(r"[\s/,]", text):
        message = f"{text!r} is not a valid address: give a name or number, as 127.0.0.1."
        raise typer.BadParameter(message)
    return text


def finite(number: float | None) -> float | None:
    """Return a number of an option as it was given; typer takes `nan` for one in any range.

    Raises:
        typer.BadParameter: it is none.
    """
    if number is not None and not math.isfinite(number):
        message = f"{number} is not a valid number."
        raise typer.BadParameter(message)
    return number


def output_file(path: Path | None) -> Path | None:
    """Return the path of a file that can be written, `~` being the user's own folder.

    Raises:
        typer.BadParameter: it is a folder, or its folder is not there or may not be written.
    """
    if path is None:
        return None
    file = _expanded(path)
    if os.path.isdir(file):
        message = f"{file} is a folder: name a file in it."
        raise typer.BadParameter(message)
    if not os.path.isdir(file.parent):
        message = f"There is no folder {file.parent}: make it first, or name another file."
        raise typer.BadParameter(message)
    if not os.access(file if os.path.exists(file) else file.parent, os.W_OK):
        message = f"{file} may not be written: name another file."
        raise typer.BadParameter(message)
    return file


def output_folder(path: Path | None) -> Path | None:
    """Return the path of a folder that can be written, or made, `~` being the user's own.

    Raises:
        typer.BadParameter: it is a file, or lies where nothing may be written.
    """
    if path is None:
        return None
    folder = _expanded(path)
    there = next(part for part in (folder, *folder.absolute().parents) if os.path.exists(part))
    if not os.path.isdir(there):
        message = f"{there} is a file: name a folder."
        raise typer.BadParameter(message)
    if not os.access(there, os.W_OK | os.X_OK):
        message = f"{folder} may not be written: name another folder."
        raise typer.BadParameter(message)
    return folder


def folder_or_uri(text: str | None) -> str | None:
    """Return a folder of this machine as `output_folder` does, or a URI as it was given.

    `file:/…` is a folder of this machine.

    Raises:
        typer.BadParameter: nothing can be written there, or it is not a valid URI.
    """
    if text is None:
        return None
    found = _URI.fullmatch(text)
    if found is None:
        return str(output_folder(Path(text)))
    scheme = found[1].lower()
    if scheme == "file":
        path = re.sub(r"^file:(//(?=/))?", "", text, flags=re.IGNORECASE)
        return str(output_folder(_path_of_uri(path)))
    parts = urlsplit(text)
    if "://" not in text or not parts.path.strip("/") or parts.query or parts.fragment:
        message = f"{text!r} is not a valid folder: give one such as hdfs://host:8020/checkpoints."
        raise typer.BadParameter(message)
    if parts.password is not None:
        shown = text.replace(f":{parts.password}@", ":…@")
        message = f"{shown!r} holds a password: give it to Hadoop by its own settings."
        raise typer.BadParameter(message)
    return text.rstrip("/")


def _path_of_uri(path: str) -> Path:
    if path.startswith("//"):
        message = f"'file:{path}' names another machine: give file:///folder."
        raise typer.BadParameter(message)
    return Path(path)


def input_file(path: Path | None) -> Path | None:
    """Return the path of a file that can be read, `~` being the user's own folder.

    Raises:
        typer.BadParameter: there is none, or it may not be read.
    """
    if path is None:
        return None
    file = _expanded(path)
    if not os.path.isfile(file):
        message = f"There is no file {file}."
        raise typer.BadParameter(message)
    if not os.access(file, os.R_OK):
        message = f"{file} may not be read."
        raise typer.BadParameter(message)
    return file


def _expanded(path: Path) -> Path:
    text = str(path)
    try:
        return path.expanduser()
    except RuntimeError as error:
        message = f"{text!r} names no user of this machine."
        raise typer.BadParameter(message) from error


def seconds_option(name: str, meaning: str) -> Any:
    """Return the option of a length of time, in seconds, of one at least."""
    return typer.Option(name, min=1, max=LONGEST_S, callback=finite, help=meaning)


def port_option(meaning: str, least: int = 1) -> Any:
    """Return the option of a port to listen on."""
    return typer.Option(min=least, max=LAST_PORT, help=meaning)


ListenHost = Annotated[
    str,
    typer.Option(
        callback=_valid_host, help="Address to listen on; 0.0.0.0 for other machines too."
    ),
]
