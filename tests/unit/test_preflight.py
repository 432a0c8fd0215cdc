"""What is said and checked before the local stack is started."""

from __future__ import annotations

import io
import shutil
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console

from tapeline.local.home import Home
from tapeline.local.jars import ALL_JARS, jar_folder
from tapeline.local.preflight import check_machine, require_disk
from tapeline.model.errors import LocalStackError, PreflightError

MB = 1024 * 1024


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture
def machine(monkeypatch):
    """Give the machine so many MB of free memory and disk."""

    def make(memory_mb, disk_mb):
        memory = SimpleNamespace(available=memory_mb * MB)
        disk = SimpleNamespace(free=disk_mb * MB)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: disk)

    return make


def said(home, *, running=False):
    console = Console(file=io.StringIO(), width=500)
    check_machine(home, 4500, running=running, console=console)
    return console.file.getvalue()


def fetch_all(home):
    for jar_set in ALL_JARS:
        jar_folder(home.jars, jar_set).mkdir(parents=True)


def test_the_first_run_says_what_it_fetches_and_needs(home, machine):
    machine(8000, 10_240)
    text = said(home)
    assert "kafka-4.4.0 (43 MB)" in text
    assert "cassandra-5.0.9 (61 MB)" in text
    assert "spark-3.5.7 (80 MB)" in text
    assert str(home.jars) in text
    assert "4.4 GB of memory (7.8 free)" in text
    assert "2.0 GB of disk (10.0 free)" in text


def test_only_what_is_missing_is_announced(home, machine):
    machine(8000, 10_240)
    jar_folder(home.jars, ALL_JARS[0]).mkdir(parents=True)
    assert ALL_JARS[0].name not in said(home)


def test_a_later_run_says_nothing(home, machine):
    machine(8000, 10_240)
    fetch_all(home)
    assert said(home) == ""


@pytest.mark.parametrize("memory_mb", [0, 4499])
def test_short_memory_stops_the_start_and_names_the_way_out(home, machine, memory_mb):
    machine(memory_mb, 10_240)
    with pytest.raises(PreflightError) as caught:
        said(home)
    assert f"Only {memory_mb} MB of memory" in str(caught.value)
    assert "TAPELINE_KAFKA__BOOTSTRAP_SERVERS" in str(caught.value)
    assert "TAPELINE_CASSANDRA__HOST" in str(caught.value)


@pytest.mark.parametrize("running", [False, True])
def test_short_disk_stops_the_start_and_names_the_way_out(home, machine, running):
    machine(8000, 1999)
    with pytest.raises(PreflightError) as caught:
        said(home, running=running)
    assert f"Only 1999 MB of disk are free at {home.root}" in str(caught.value)
    assert "TAPELINE_HOME" in str(caught.value)


def test_just_enough_is_enough(home, machine):
    machine(4500, 2000)
    fetch_all(home)
    assert said(home) == ""


def test_a_stack_that_runs_in_part_already_has_its_memory(home, machine):
    machine(100, 2000)
    fetch_all(home)
    assert said(home, running=True) == ""


def test_this_machines_real_numbers_are_read(home):
    fetch_all(home)
    assert said(home, running=True) == ""


def test_a_service_that_cannot_start_on_a_full_disk_says_which(home, machine):
    died = LocalStackError("cassandra has died while starting.")
    machine(8000, 49)
    with pytest.raises(LocalStackError, match=f"The disk of {home.root} is full.*has died"):
        require_disk(home.root, died)
    machine(8000, 50)
    require_disk(home.root, died)
