"""`tapeline settings` and `tapeline metrics`, and the files that hold what they print."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tapeline.cli.app import app
from tapeline.program.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("TAPELINE_") or name.upper() == "FINNHUB_API_KEY":
            monkeypatch.delenv(name)


def printed(*arguments: str) -> str:
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def rows(page: str) -> list[list[str]]:
    """Return the cells of every row of every Markdown table."""
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def set_variables(example: str) -> dict[str, str]:
    """Return the variables of an example, without the # before them."""
    return dict(re.findall(r"^#([A-Z0-9_]+)=(.*)$", example, re.MULTILINE))


@pytest.mark.parametrize(
    ("file", "command"),
    [
        (".env.example", "settings --format env"),
        ("docs/settings.md", "settings --format markdown"),
        ("docs/metrics.md", "metrics --format markdown"),
    ],
)
def test_a_file_of_the_repository_is_what_the_command_prints(file, command):
    is_same = (ROOT / file).read_text(encoding="utf-8") == printed(*command.split())
    assert is_same, f"{file} is out of date; run: tapeline {command} > {file}"


def test_a_setting_is_shown_with_its_variable_default_unit_and_meaning():
    table = {cells[0]: cells[1:] for cells in rows(printed("settings", "--format", "markdown"))}
    assert table["`TAPELINE_KAFKA__RETENTION_HOURS`"] == [
        "`168`",
        "hours",
        "Hours for which trades stay in Kafka.",
    ]
    assert table["`TAPELINE_STREAM__POLICY`"][:2] == ["`sip+oddlot`", ""]
    assert table["`TAPELINE_STREAM__STORE_1M`"][0] == "`false`"
    assert table["`TAPELINE_CASSANDRA__REQUEST_TIMEOUT_S`"][:2] == ["`20.0`", "seconds"]
    assert table["`TAPELINE_FINNHUB__MAX_FRAME_BYTES`"][:2] == ["`15728640`", "bytes"]
    # Found by itself, made for each machine, and secret: no default is shown.
    for name in ("TAPELINE_CASSANDRA__HOST", "TAPELINE_HOME", "FINNHUB_API_KEY"):
        assert table[f"`{name}`"][0] == ""


def test_the_first_setting_is_the_feeds_key():
    assert rows(printed("settings", "--format", "markdown"))[0][0] == "`FINNHUB_API_KEY`"
    assert next(iter(set_variables(printed("settings", "--format", "env")))) == "FINNHUB_API_KEY"


def test_every_setting_has_a_meaning_and_every_row_all_its_cells():
    for command, cells in (("settings", 4), ("metrics", 5)):
        table = rows(printed(command, "--format", "markdown"))
        assert {len(row) for row in table} == {cells}
        assert all(row[-1].endswith(".") for row in table)


def test_a_narrow_terminal_cuts_no_name(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert "TAPELINE_STREAM__MAX_OFFSETS_PER_TRIGGER" in printed("settings")
    assert "tapeline_producer_newest_receipt_timestamp_seconds" in printed("metrics")


@pytest.mark.parametrize("output_format", ["table", "markdown", "env"])
def test_neither_the_key_nor_this_machines_folders_are_shown(monkeypatch, output_format):
    monkeypatch.setenv("FINNHUB_API_KEY", "c9secret")
    page = printed("settings", "--format", output_format)
    assert "FINNHUB_API_KEY" in page
    assert "c9secret" not in page
    assert str(Path.home()) not in page


def test_the_example_alone_sets_nothing(tmp_path, monkeypatch):
    file = tmp_path / ".env"
    file.write_text(printed("settings", "--format", "env"), encoding="utf-8")
    monkeypatch.setenv("TAPELINE_ENV_FILE", str(file))
    assert load_settings() == Settings()


def test_the_example_without_its_comment_signs_sets_every_default(tmp_path, monkeypatch):
    variables = set_variables(printed("settings", "--format", "env"))
    file = tmp_path / ".env"
    file.write_text("".join(f"{n}={v}\n" for n, v in variables.items()), encoding="utf-8")
    monkeypatch.setenv("TAPELINE_ENV_FILE", str(file))

    assert load_settings() == Settings()
    groups = Settings().model_dump().values()
    assert len(variables) == sum(len(g) if isinstance(g, dict) else 1 for g in groups)


def test_what_is_filled_in_the_example_is_used(tmp_path, monkeypatch):
    example = printed("settings", "--format", "env")
    for before, after in (
        ("#FINNHUB_API_KEY=\n", "FINNHUB_API_KEY=c9secret\n"),
        ("#TAPELINE_KAFKA__TOPIC=trades_raw\n", "TAPELINE_KAFKA__TOPIC=mine\n"),
        ("#TAPELINE_METRICS__STREAM_PORT=9109\n", "TAPELINE_METRICS__STREAM_PORT=0\n"),
    ):
        assert before in example
        example = example.replace(before, after)
    file = tmp_path / ".env"
    file.write_text(example, encoding="utf-8")
    monkeypatch.setenv("TAPELINE_ENV_FILE", str(file))

    settings = load_settings()

    assert settings.finnhub_api_key is not None
    assert settings.finnhub_api_key.get_secret_value() == "c9secret"
    assert settings.kafka.topic == "mine"
    assert settings.metrics.stream_port == 0
    assert settings.metrics.producer_port == 9108
