"""`tapeline up` and `down`: the local Kafka and Cassandra."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from tapeline.local.discovery import find_endpoints
from tapeline.local.home import Home
from tapeline.local.stack import LocalStack
from tapeline.program.profile import PROFILE_HELP, Profile
from tapeline.program.settings import load_settings


def up(
    profile: Annotated[Profile | None, typer.Option(help=PROFILE_HELP)] = None,
) -> None:
    """Start the local Kafka and Cassandra and leave them running.

    Example: tapeline up && tapeline init
    """
    settings = load_settings().with_target(profile=profile)
    console = Console(markup=False)
    LocalStack(Home(settings.home), console, settings.profile).up(keep=True)
    console.print(f"Running: {find_endpoints(settings)}", highlight=False)


def down() -> None:
    """Stop the local Kafka and Cassandra; their data stays.

    Example: tapeline down
    """
    settings = load_settings()
    console = Console(markup=False)
    stopped = LocalStack(Home(settings.home), console).down()
    console.print(f"Stopped: {', '.join(stopped) if stopped else 'nothing was running'}.")
