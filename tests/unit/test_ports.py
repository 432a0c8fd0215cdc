"""Loopback ports: chosen, claimed until the service that inherits them has ended, waited for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from tapeline.local.ports import PortClaims, free_port, wait_for_port
from tapeline.local.service import accepts_connections, start_service
from tapeline.model.errors import LocalStackError

SLEEP = "import time; time.sleep(60)"
CLAIM = (
    "import sys; from tapeline.local.ports import PortClaims; "
    "print(PortClaims().take(int(sys.argv[1])))"
)


@pytest.fixture
def free():
    """A port that was free a moment ago."""
    return free_port(0)


def test_a_preferred_port_that_is_free_is_taken():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert free_port(port) == port


def test_a_port_that_is_taken_gives_way_to_one_above_it():
    with ExitStack() as servers:
        first = servers.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        found = [first]
        for _ in range(6):
            found.append(free_port(first))
            assert not accepts_connections(found[-1])
            servers.enter_context(socket.create_server(("127.0.0.1", found[-1])))

    assert len(set(found)) == 7
    assert all(port - first in {10, 20, 30, 40} for port in found[1:3])


def test_the_highest_port_has_none_above_it():
    with socket.create_server(("127.0.0.1", 65535)):
        assert 0 < free_port(65535) < 65535


def test_a_port_that_is_let_go_is_waited_for_and_one_that_is_not_only_for_a_while():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        began = time.monotonic()
        wait_for_port(port, 0.3)
        assert time.monotonic() - began >= 0.3

        threading.Timer(0.3, taken.close).start()
        wait_for_port(port, 30)
        assert time.monotonic() - began < 20
    assert free_port(port) == port


def test_a_claimed_port_is_not_chosen_by_another_though_nobody_listens_yet(free):
    with PortClaims() as ours, PortClaims() as theirs:
        assert ours.take(free) == free
        assert theirs.take(free) != free
        of_another_process = subprocess.check_output([sys.executable, "-c", CLAIM, str(free)])
        assert int(of_another_process) != free
    with PortClaims() as later:
        assert later.take(free) == free


def test_a_service_keeps_the_claims_that_it_inherited_until_it_ends(free, tmp_path):
    with PortClaims() as ours:
        ours.take(free)
        service = start_service(
            "tester",
            [sys.executable, "-c", SLEEP],
            port=free,
            log=tmp_path / "log",
            environment=os.environ,
            inherits=ours.descriptors,
        )
    try:
        with PortClaims() as theirs:
            assert theirs.take(free) != free
    finally:
        service.stop()
    with PortClaims() as theirs:
        assert theirs.take(free) == free


def test_a_port_with_a_listener_is_not_claimed():
    with socket.create_server(("127.0.0.1", 0)) as server, PortClaims() as claims:
        port = server.getsockname()[1]
        assert claims.take(port) != port
        assert len(claims.descriptors) == 1


def test_a_folder_of_claims_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with PortClaims() as claims, pytest.raises(LocalStackError, match="set TMPDIR"):
        claims.take(19092)
