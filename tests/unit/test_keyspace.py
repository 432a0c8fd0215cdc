"""Who opens a keyspace too early is told what to wait for."""

from __future__ import annotations

import fcntl

import pytest

from tapeline.local.home import Home
from tapeline.local.keyspace import open_keyspace
from tapeline.local.ports import free_port
from tapeline.model.errors import ServiceUnavailableError
from tapeline.program.settings import load_settings


def test_while_the_local_stack_is_started_nobody_is_told_to_start_one(monkeypatch, tmp_path):
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path))
    monkeypatch.setenv("TAPELINE_CASSANDRA__PORT", str(port := free_port(0)))
    settings = load_settings()
    with Home(tmp_path).lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ServiceUnavailableError, match="Cassandra are being started"):
            open_keyspace(settings)
        monkeypatch.setenv("TAPELINE_CASSANDRA__HOST", "127.0.0.1")
        with pytest.raises(ServiceUnavailableError, match=f"127.0.0.1:{port}: start it"):
            open_keyspace(load_settings())
    with pytest.raises(ServiceUnavailableError, match=f"127.0.0.1:{port}: start it"):
        open_keyspace(settings)
