"""Java behind a proxy."""

from __future__ import annotations

import io
import socket
import threading
from pathlib import Path

import pytest
from rich.console import Console

from tapeline.local.jars import JarSet, fetch_jars
from tapeline.local.java import find_java
from tapeline.local.proxy import proxy_options
from tapeline.model.errors import LocalStackError


@pytest.mark.parametrize(
    ("proxies", "options"),
    [
        ({}, []),
        (
            {"https": "http://proxy:3128"},
            ["-Dhttps.proxyHost=proxy", "-Dhttps.proxyPort=3128"],
        ),
        (
            {"http": "http://a", "https": "https://me:secret@b", "no": "localhost, .example"},
            [
                "-Dhttp.proxyHost=a",
                "-Dhttp.proxyPort=80",
                "-Dhttps.proxyHost=b",
                "-Dhttps.proxyPort=443",
                "-Dhttp.nonProxyHosts=localhost|*.example",
            ],
        ),
        ({"https": "socks5://proxy:1080"}, []),
        ({"https": "http://proxy:port", "no": "x"}, []),
    ],
)
def test_the_proxies_of_the_environment_become_options(
    proxies: dict[str, str], options: list[str]
) -> None:
    assert proxy_options(proxies) == options


def test_ivy_asks_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def refuse() -> None:
        while True:
            try:
                connection = listening.accept()[0]
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65536).split(b"\r\n")[0])
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=refuse, daemon=True).start()
        proxy = f"http://127.0.0.1:{listening.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy)
            monkeypatch.delenv(name.upper(), raising=False)
        one = JarSet("one-1.0", ("org.example:one:1.0",), 1, 1)
        with pytest.raises(LocalStackError, match=r"Fetching one-1\.0 failed"):
            fetch_jars(tmp_path / "jars", [one], find_java(), Console(file=io.StringIO()))
        listening.shutdown(socket.SHUT_RDWR)

    assert any(line.startswith(b"CONNECT ") for line in asked)
