"""One key, one connection: between real processes."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from tapeline.model.errors import UsageError
from tapeline.producer.key_lock import one_connection

URL = "wss://feed.example"
TOKEN = SecretStr("canary-d3adb33f-token")
HOLDER = """
import sys
from pathlib import Path
from pydantic import SecretStr
from tapeline.producer.key_lock import one_connection
with one_connection(Path(sys.argv[1]), sys.argv[2], SecretStr(sys.argv[3])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(home), URL, TOKEN.get_secret_value()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_producer_with_the_key_is_refused_until_the_first_is_gone(tmp_path):
    with hold(tmp_path) as first:
        with (
            pytest.raises(
                UsageError, match="Another producer is connected with this key"
            ) as caught,
            one_connection(tmp_path, URL, TOKEN),
        ):
            pass
        # Another key, and another feed, are another connection.
        with one_connection(tmp_path, URL, SecretStr("other")):
            pass
        with one_connection(tmp_path, "ws://127.0.0.1:1", TOKEN):
            pass
        first.kill()
    assert TOKEN.get_secret_value() not in str(caught.value)
    with one_connection(tmp_path, URL, TOKEN):
        pass


def test_nothing_on_disk_tells_the_key(tmp_path):
    with one_connection(tmp_path, URL, TOKEN):
        found = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(found) == 2
        for path in found:
            assert TOKEN.get_secret_value() not in path.name
            assert TOKEN.get_secret_value().encode() not in path.read_bytes()
    salt = tmp_path / "locks" / "feed.salt"
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600


def test_two_homes_name_the_lock_of_one_key_differently(tmp_path):
    locks = set()
    for home in (tmp_path / "a", tmp_path / "b"):
        with one_connection(home, URL, TOKEN):
            locks |= {path.name for path in (home / "locks").glob("feed-*")}

    assert len(locks) == 2
