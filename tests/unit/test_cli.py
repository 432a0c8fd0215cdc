"""The list of commands, and that help loads none of them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tapeline.cli.app import COMMANDS, app, load_command


@pytest.mark.parametrize("name", COMMANDS)
def test_the_first_line_in_the_list_is_that_of_the_command(name):
    command = load_command(name)
    assert command.name == name
    assert command.help.splitlines()[0] == COMMANDS[name][1]


def test_help_names_every_command_and_loads_neither_spark_nor_a_web_server():
    code = (
        "import sys; sys.argv = ['tapeline', '--help']\n"
        "from tapeline.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', *({'pyspark', 'fastapi', 'uvicorn', 'duckdb'} & {*sys.modules}))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert process.stdout.splitlines()[-1].split() == ["LOADED"]
    for name in (*COMMANDS, "version"):
        assert f" {name} " in process.stdout


def test_a_command_runs_and_a_wrong_name_is_answered_with_the_right_one():
    assert CliRunner().invoke(app, ["settings", "-h"]).exit_code == 0
    wrong = CliRunner().invoke(app, ["setings"])
    assert wrong.exit_code == 2
    assert "settings" in wrong.output
