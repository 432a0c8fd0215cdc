from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

SRC = Path(__file__).parents[2] / "src"

# From the top down: a room may import those of the lines below its own.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"demo"},
    {
        "api",
        "audit",
        "dead_letters",
        "export",
        "heal",
        "rebuild",
        "the stream's wiring",
        "trace",
        "watch",
    },
    {"status"},
    {"finalize"},
    {"consumer", "producer", "live"},
    {"simulator", "read"},
    {"local"},
    {"client", "feeds", "kafka", "storage"},
    {"program"},
    {"model"},
)
# They join the query with the finalizer, and stay where the plan has them.
WIRING = {"tapeline.consumer.main", "tapeline.consumer.job"}
ONLY_SETTINGS = {
    "tapeline.program.service_settings",
    "tapeline.program.settings",
    "tapeline.program.tls",
}
HTTP = {"fastapi", "http", "starlette", "tapeline.program.metrics_server", "urllib", "uvicorn"}


class Arrow(NamedTuple):
    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source.replace('.', '/')}.py:{self.line} imports {self.target}"


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((SRC / "tapeline").rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def all_arrows() -> list[Arrow]:
    """Return every import of every module, also those inside functions."""
    known = modules()
    found = []
    for source, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [Arrow(source, alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    target = whole if whole in known else str(node.module)
                    found.append(Arrow(source, target, node.lineno))
    return found


ARROWS = all_arrows()
OURS = [arrow for arrow in ARROWS if arrow.target.split(".")[0] == "tapeline"]


def room_of(module: str) -> str:
    return "the stream's wiring" if module in WIRING else module.split(".")[1]


def level_of(module: str) -> int:
    room = room_of(module)
    return next(level for level, rooms in enumerate(LAYERS) if room in rooms)


def in_room(room: str) -> list[Arrow]:
    return [arrow for arrow in OURS if arrow.source.startswith(f"tapeline.{room}.")]


def test_every_room_has_its_place_in_the_layers():
    placed = set().union(*LAYERS) - {"the stream's wiring"}
    assert {module.split(".")[1] for module in modules() if "." in module} == placed


def test_imports_only_go_down():
    upward = [
        str(arrow)
        for arrow in OURS
        if arrow.source != "tapeline"  # it loads its readers when they are asked for
        and arrow.target != "tapeline"  # which holds the version
        and room_of(arrow.source) != room_of(arrow.target)
        and level_of(arrow.source) >= level_of(arrow.target)
    ]
    assert upward == []


def test_the_package_itself_imports_only_its_readers():
    own = {arrow.target for arrow in OURS if arrow.source == "tapeline"}
    assert own == {
        "tapeline.client.bars",
        "tapeline.client.trades",
        "tapeline.read.bars",
        "tapeline.read.trades",
    }


def test_the_model_imports_nothing_else_of_ours():
    assert [str(a) for a in in_room("model") if room_of(a.target) != "model"] == []


@pytest.mark.parametrize("room", ["kafka", "storage"])
def test_kafka_and_storage_know_the_model_and_their_settings(room):
    others = [
        str(arrow)
        for arrow in in_room(room)
        if room_of(arrow.target) not in {room, "model"} and arrow.target not in ONLY_SETTINGS
    ]
    assert others == []


def test_of_the_producer_only_its_command_knows_the_simulator():
    arrows = [a for a in in_room("producer") if room_of(a.target) == "simulator"]
    assert {arrow.source for arrow in arrows} == {"tapeline.producer.main"}


def test_finalizing_speaks_no_http():
    reached, new = set(), {module for module in modules() if ".finalize" in module}
    while new:
        reached |= new
        new = {a.target for a in OURS if a.source in new} - reached
    assert [str(a) for a in ARROWS if a.source in reached and is_http(a.target)] == []


def is_http(target: str) -> bool:
    return not HTTP.isdisjoint({target, target.split(".", maxsplit=1)[0]})


@pytest.mark.parametrize("room", ["api", "cli"])
def test_api_and_command_line_load_no_spark(room):
    names = [module for module in modules() if module.startswith(f"tapeline.{room}")]
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('pyspark', 'py4j')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"


def test_no_two_files_of_tests_share_a_name():
    """Pytest takes the second of them for the first, and does not run it."""
    names = Counter(path.name for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
