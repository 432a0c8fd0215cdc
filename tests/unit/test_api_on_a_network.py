"""`tapeline api` on a network: refused without keys, and what its output never holds."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tests.commands import UNMEASURED, fail, start, wait_for
from tests.served import keys_in

ANNA = "2b7e151628aed2a6abf7158809cf4f3c"
WRONG = "8d969eef6ecad3c29a3a629280e686cf"
AWAY = {
    "TAPELINE_CASSANDRA__HOST": LOOPBACK,
    "TAPELINE_CASSANDRA__PORT": "9",
    "TAPELINE_KAFKA__BOOTSTRAP_SERVERS": f"{LOOPBACK}:9",
    "TAPELINE_API__KEYS_FILE": "",
}


@contextmanager
def running(
    arguments: list[str], environment: Mapping[str, str]
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `tapeline api` without services until it is asked to stop; yields its address."""
    port = free_port(0)
    process = start(
        "api", "--port", f"{port}", *arguments, environment=AWAY | UNMEASURED | {**environment}
    )
    url = f"http://{LOOPBACK}:{port}"

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/health/live", timeout=2).status_code == 200
        return False

    try:
        wait_for(answers, 60)
        yield url, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return keys_in(tmp_path, anna=ANNA)


def test_an_address_of_a_network_is_refused_without_keys() -> None:
    code, output = fail("api", "--host", "0.0.0.0", "--port", "0", environment=AWAY)  # noqa: S104 - refused

    assert code == 2
    assert len(output.splitlines()) == 1
    assert output.startswith("Error: Everyone who reaches 0.0.0.0:")
    assert "TAPELINE_API__KEYS_FILE" in output
    assert "--allow-anyone" in output


def test_it_is_listened_on_with_keys_or_where_that_is_meant(keys_file: Path) -> None:
    everywhere = ["--host", "0.0.0.0"]  # noqa: S104 - for a moment
    with running(everywhere, {"TAPELINE_API__KEYS_FILE": f"{keys_file}"}) as (url, _):
        assert httpx.get(f"{url}/openapi.json").status_code == 401
    with running([*everywhere, "--allow-anyone"], {}) as (url, _):
        assert httpx.get(f"{url}/openapi.json").status_code == 200


def test_a_file_of_keys_that_cannot_be_used_ends_it_before_it_listens(keys_file: Path) -> None:
    keys_file.chmod(0o644)
    environment = {**AWAY, "TAPELINE_API__KEYS_FILE": f"{keys_file}"}
    code, output = fail("api", "--port", "0", environment=environment)

    assert (code, len(output.splitlines())) == (2, 1)
    assert output.startswith("Error: Everyone may use the file that TAPELINE_API__KEYS_FILE names")


def test_the_output_of_a_whole_run_holds_no_key(keys_file: Path) -> None:
    environment = {"TAPELINE_API__KEYS_FILE": f"{keys_file}", "TAPELINE_LOG_LEVEL": "DEBUG"}
    with running([], environment) as (url, process):
        sockets = url.replace("http", "ws") + "/v1/ws"
        for key in (ANNA, WRONG):
            headers = {"Authorization": f"Bearer {key}"}
            for path in ("/v1/symbols", f"/v1/bars/A?key={key}", f"/{key}", "/metrics"):
                assert key[:8] not in httpx.get(url + path, headers=headers).text
            httpx.post(f"{url}/v1/session", headers={"X-API-Key": key})
            with contextlib.suppress(InvalidStatus), connect(sockets, additional_headers=headers):
                pass
        keys_file.write_text(f"{ANNA}{ANNA}\nx:{WRONG[:9]}\n", encoding="utf-8")
        time.sleep(1.1)  # the file is looked at once a second
        assert httpx.get(f"{url}/metrics", headers={"X-API-Key": ANNA}).status_code == 200
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)

    assert process.returncode == 0, output
    assert "api_keys_unchanged" in output
    assert [part for part in (ANNA[:8], WRONG[:8]) if part in output] == []
