"""The list of commands, and that help loads none of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest
from typer.testing import CliRunner

import tapeline
from tapeline.cli.app import COMMANDS, app, load_command


@pytest.mark.parametrize("name", COMMANDS)
def test_the_first_line_in_the_list_is_that_of_the_command(name):
    command = load_command(name)
    assert command.name == name
    assert command.help.splitlines()[0] == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_printed_as_it_is_written(name):
    printed = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "300"}).output
    function = getattr(import_module(COMMANDS[name][0]), name.replace("-", "_"))
    words = " ".join((function.__doc__, *option_helps(function))).split()
    assert [word for word in words if word not in printed] == []
    assert "completion" not in printed  # which is the program's own affair


def option_helps(function):
    """Return the help of each option and argument, as it is in the source."""
    for annotation in get_type_hints(function, include_extras=True).values():
        for described in getattr(annotation, "__metadata__", ()):
            yield described.help or ""


def test_no_console_takes_brackets_of_a_text_for_markup():
    made = [
        (path, call)
        for path in Path(tapeline.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in {"Console", "TextColumn"}
    ]
    assert len(made) > 20
    for path, call in made:
        assert "markup=False" in ast.unparse(call), path


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


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bars", ["AAPL"]),
        ("export", ["bars", "-o", "bars"]),
        ("gaps", []),
        ("dead-letters", ["list"]),
        ("trace", ["AAPL", "2026-11-20"]),
        ("symbols", ["list"]),
    ],
)
def test_a_command_says_on_standard_error_which_services_it_uses(
    monkeypatch, tmp_path, name, arguments
):
    def has_come_that_far(*_, **__):
        raise NotImplementedError

    module = import_module(COMMANDS[name][0])
    for first in ("topic_admin", "open_keyspace", "read_bars"):
        monkeypatch.setattr(module, first, has_come_that_far, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAPELINE_KAFKA__BOOTSTRAP_SERVERS", "kafka.example:9092")
    monkeypatch.setenv("TAPELINE_CASSANDRA__HOST", "cassandra.example")
    result = CliRunner().invoke(app, [name, *arguments])
    assert isinstance(result.exception, NotImplementedError)
    assert result.stdout == ""
    assert result.stderr == (
        "Using Kafka kafka.example:9092 (from settings), "
        "Cassandra cassandra.example:9042 (from settings)\n"
    )


def test_a_command_runs_and_a_wrong_name_is_answered_with_the_right_one():
    assert CliRunner().invoke(app, ["settings", "-h"]).exit_code == 0
    wrong = CliRunner().invoke(app, ["setings"])
    assert wrong.exit_code == 2
    assert "settings" in wrong.output
