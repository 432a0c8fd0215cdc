"""Run commands: one exit code and one sentence for every error that is ours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from cassandra import DriverException
from confluent_kafka import KafkaException
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from tapeline.model.errors import TapelineError
from tapeline.program.other_pyspark import leave_other_pyspark


def command_of(function: Callable[..., Any], name: str | None = None) -> Any:
    """Return a command whose help is printed as it is written, brackets too."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command(name)(function)
    command: Any = typer.main.get_command(program)
    for described in (command, *command.params):
        described.help = described.help and escape(described.help)
    return command


def run_command(function: Callable[..., Any]) -> None:
    """Run one command as a program of its own."""
    run_program(command_of(function))


def run_program(program: Callable[[], Any]) -> None:
    """Run a program; print what went wrong without a traceback and exit with its code."""
    leave_other_pyspark()
    try:
        program()
    except TapelineError as error:
        # Text, not markup: the end of a log may hold any brackets.
        text = Text.assemble(("Error:", "bold red"), f" {error}")
        Console(stderr=True, markup=False).print(text, soft_wrap=True)
        sys.exit(error.exit_code)
    except (KafkaException, DriverException, OSError, *_no_host()) as error:
        typer.echo(f"Error: {type(error).__name__}: {error}", err=True)
        sys.exit(TapelineError.exit_code)


def _no_host() -> tuple[type[Exception], ...]:
    """Return the driver's other error, which is known only to who has loaded its large module."""
    module = sys.modules.get("cassandra.cluster")
    return () if module is None else (module.NoHostAvailable,)
