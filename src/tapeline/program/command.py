"""Run commands: one exit code and one sentence for every error that is ours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from cassandra import DriverException
from confluent_kafka import KafkaException
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.text import Text

from tapeline.model.errors import TapelineError, UsageError


def run_command(command: Callable[..., Any]) -> None:
    """Run one command as a program of its own."""
    program = typer.Typer(pretty_exceptions_enable=False)
    program.command()(command)
    run_program(program)


def run_program(program: typer.Typer) -> None:
    """Run a program; print what went wrong without a traceback and exit with its code."""
    try:
        program()
    except TapelineError as error:
        # Text, not markup: the end of a log may hold any brackets.
        text = Text.assemble(("Error:", "bold red"), f" {error}")
        Console(stderr=True).print(text, soft_wrap=True)
        sys.exit(error.exit_code)
    except (KafkaException, DriverException, OSError, SettingsError, *_no_host()) as error:
        typer.echo(f"Error: {type(error).__name__}: {error}", err=True)
        sys.exit(TapelineError.exit_code)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        typer.echo(f"Error: setting {field}: {said}.", err=True)
        sys.exit(UsageError.exit_code)


def _no_host() -> tuple[type[Exception], ...]:
    """Return the driver's other error, which is known only to who has loaded its large module."""
    module = sys.modules.get("cassandra.cluster")
    return () if module is None else (module.NoHostAvailable,)
