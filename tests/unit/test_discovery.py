"""Which Kafka and Cassandra are used: settings, then the local stack, then localhost."""

from __future__ import annotations

import json
import os

import psutil
import pytest

from tapeline.local.discovery import Endpoints, find_endpoints
from tapeline.program.settings import Settings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in os.environ:
        if name.startswith("TAPELINE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path):
    return tmp_path


def settings_of(home, *, kafka=None, cassandra=None) -> Settings:
    return Settings(home=home, kafka=kafka or {}, cassandra=cassandra or {})


def run_stack(home, *names, created=None):
    """Write a state file in which these services are this very process."""
    own = psutil.Process()
    ports = {"kafka": 19092, "cassandra": 19042}
    services = [
        {"name": n, "pid": own.pid, "created": created or own.create_time(), "port": ports[n]}
        for n in names
    ]
    (home / "stack.json").write_text(json.dumps({"kept": True, "services": services}))


def test_without_anything_it_is_localhost(home):
    assert find_endpoints(settings_of(home)) == Endpoints(
        "127.0.0.1:9092", "127.0.0.1", 9042, "default", "default"
    )


def test_a_local_stack_goes_before_localhost(home):
    run_stack(home, "kafka", "cassandra")
    assert find_endpoints(settings_of(home)) == Endpoints(
        "127.0.0.1:19092", "127.0.0.1", 19042, "local stack", "local stack"
    )


def test_settings_go_before_the_local_stack(home):
    run_stack(home, "kafka", "cassandra")
    settings = settings_of(
        home,
        kafka={"bootstrap_servers": "k1:9092,k2:9092"},
        cassandra={"host": "db.example", "port": 9999},
    )
    assert find_endpoints(settings) == Endpoints(
        "k1:9092,k2:9092", "db.example", 9999, "from settings", "from settings"
    )


def test_each_service_is_decided_by_itself(home):
    run_stack(home, "kafka")
    settings = settings_of(home, cassandra={"host": "db.example"})
    assert find_endpoints(settings) == Endpoints(
        "127.0.0.1:19092", "db.example", 9042, "local stack", "from settings"
    )


def test_half_a_stack_leaves_the_other_at_localhost(home):
    run_stack(home, "cassandra")
    assert find_endpoints(settings_of(home)) == Endpoints(
        "127.0.0.1:9092", "127.0.0.1", 19042, "default", "local stack"
    )


def test_a_stack_that_has_died_does_not_count(home):
    run_stack(home, "kafka", "cassandra", created=1.0)
    assert find_endpoints(settings_of(home)) == Endpoints(
        "127.0.0.1:9092", "127.0.0.1", 9042, "default", "default"
    )


def test_half_a_stack_that_has_died_is_looked_for_where_it_was(home):
    """Another Cassandra may listen on the usual port."""
    run_stack(home, "kafka", "cassandra")
    state = json.loads((home / "stack.json").read_text())
    state["services"][1]["created"] = 1.0
    (home / "stack.json").write_text(json.dumps(state))

    assert find_endpoints(settings_of(home)) == Endpoints(
        "127.0.0.1:19092", "127.0.0.1", 19042, "local stack", "local stack"
    )


def test_the_sentence_says_where_each_was_found(home):
    run_stack(home, "kafka")
    settings = settings_of(home, cassandra={"host": "db.example"})
    assert str(find_endpoints(settings)) == (
        "Kafka 127.0.0.1:19092 (local stack), Cassandra db.example:9042 (from settings)"
    )
