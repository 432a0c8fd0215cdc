"""What the forge, pre-commit and an editor are told to run must be there."""

from __future__ import annotations

import json
import re
import sysconfig
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(p for p in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if p.stem != "config")
TARGETS = set(
    re.findall(r"^([\w$()./]+):(?!=)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
)
PROGRAMS = Path(sysconfig.get_path("scripts"))
MAY = {"contents", "packages", "id-token", "attestations"}
"""All that a job of ours may ever ask for: a release, an image, and the statements about both."""


def read(path: Path) -> dict[str, Any]:
    """Return a YAML file with every scalar as its text, so that `on` is no truth value."""
    content: dict[str, Any] = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    return content


def missing(command: str) -> list[str]:
    """Return what a command names of ours and is not there."""
    words = command.replace('"', " ").replace("$(", " ").replace(")", " ").split()
    targets = [word for before, word in pairwise(words) if before == "make"]
    programs = [w.removeprefix(".venv/bin/") for w in words if w.startswith(".venv/bin/")]
    files = [w for w in words if w.startswith((".ci/", "scripts/", "tests/"))]
    return [
        *(t for t in targets if t.replace(".venv/bin", "$(BIN)") not in TARGETS),
        *(p for p in programs if p != ".dev" and not (PROGRAMS / p).exists()),
        *(f for f in files if not (ROOT / f).exists()),
    ]


def named(name: Path) -> str:
    return name.stem


def test_the_check_of_commands_finds_what_is_not_there():
    assert missing("make unit && make nothing && .ci/run && .ci/none") == ["nothing", ".ci/none"]
    assert missing('test "$(.venv/bin/tapeline x)" && .venv/bin/none') == ["none"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_workflow_runs_what_is_there_with_few_rights(path: Path) -> None:
    workflow = read(path)

    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["jobs"]
    for job in workflow["jobs"].values():
        assert job.get("permissions", {}).keys() <= MAY
        if "uses" in job:
            assert (ROOT / job["uses"]).is_file()
            continue
        assert int(job["timeout-minutes"]) > 0
        for step in job["steps"]:
            assert missing(step.get("run", "")) == []
            action, _, version = step.get("uses", "none@v0.0.0").partition("@")
            assert re.fullmatch(r"v\d+\.\d+\.\d+", version), action
            if action == "actions/checkout":
                assert step["with"]["persist-credentials"] == "false"
    assert "://" not in path.read_text("utf-8")


def test_the_unit_tests_run_on_each_python_that_is_supported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pythons = [text.rpartition(" ")[2] for text in project["classifiers"] if ":: 3." in text]

    unit = read(ROOT / ".github/workflows/check.yml")["jobs"]["unit"]

    assert unit["strategy"]["matrix"]["python"] == pythons
    assert f"for version in {pythons[-1]} " in (ROOT / ".ci/wheel").read_text("utf-8")


@pytest.mark.parametrize("path", FORMS, ids=named)
def test_a_form_asks_each_question_once_and_with_words(path: Path) -> None:
    form = read(path)

    assert {"name", "description", "body"} <= form.keys()
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    assert {part["type"] for part in asked} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert all(part["attributes"]["label"] for part in asked)
    assert len({part["id"] for part in asked}) == len(asked)
    commands = re.findall(r"`tapeline ([a-z-]+)", path.read_text("utf-8"))
    helped = (ROOT / "README.md").read_text("utf-8")
    assert [c for c in commands if c != "--version" and f"tapeline {c}" not in helped] == []


def test_the_hooks_before_a_commit_run_what_the_environment_has():
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]

    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    assert [missing(hook["entry"]) for hook in repository["hooks"]] == [[], [], []]


def test_what_is_raised_by_itself_is_there():
    updates = read(ROOT / ".github/dependabot.yml")["updates"]

    folders = [
        f for u in updates for f in u.get("directories", []) if u["package-ecosystem"] == "docker"
    ]
    assert folders
    assert all((ROOT / folder.lstrip("/") / "Dockerfile").is_file() for folder in folders)


def test_the_container_to_develop_in_has_the_python_of_the_image():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text("utf-8"))
    own = ROOT / ".devcontainer" / container["build"]["dockerfile"]

    assert missing(container["postCreateCommand"]) == []
    texts = [file.read_text("utf-8") for file in (own, ROOT / "Dockerfile")]
    of_ours, of_image = (re.findall(r"^FROM (\S+)", text, re.MULTILINE)[0] for text in texts)
    assert of_ours == of_image
