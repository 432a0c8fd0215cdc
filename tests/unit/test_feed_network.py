"""The feed's client behind a proxy, and with a certificate that does not verify: real servers."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection, serve

from tapeline.model.errors import UsageError
from tapeline.producer import feed_client
from tapeline.producer.feed_address import proxy_of
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.program.settings import FinnhubSettings
from tests.certificates import Authority

LIMIT_S = 20.0
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY", "NO_PROXY")
SOCKS_PROXIES = ("SOCKS_PROXY",)


@pytest.fixture(autouse=True)
def _plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_client, "_FIRST_BACKOFF_S", 0.01)
    for name in (*PROXIES, *SOCKS_PROXIES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def one_frame(connection: ServerConnection) -> None:
    """Wait for the subscription, send one message and end."""
    await connection.recv()
    await connection.send("hello")
    await connection.close(1000, "end of tape")


class Proxy:
    """A proxy that speaks CONNECT and leads to loopback, whatever the host's name."""

    def __init__(self, refuses: int = 0) -> None:
        self._refuses = refuses
        self.asked: list[str] = []
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split("\r\n", maxsplit=1)[0])
        if len(self.asked) <= self._refuses:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        port = int(head.split()[1].rpartition(":")[2])
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()


def certificate(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate that nobody has signed; return its file and a server's context."""
    file, key = folder / "own.pem", folder / "own.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={names[0]}", "-addext", f"subjectAltName={','.join(names)}"),
            *("-keyout", str(key), "-out", str(file)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return file, context


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, LIMIT_S))


async def frames_of(url: str, lost: asyncio.Semaphore | None = None) -> list[bytes | str]:
    """Read to the end, and release a semaphore at each attempt in vain."""
    client = FinnhubClient(FinnhubSettings(url=url), SecretStr("c9secret"), ("AAPL",))
    if lost is not None:
        client.on_loss = lambda _kind: lost.release()
    async with aclosing(client.frames()) as frames:
        return [frame.data async for frame in frames]


def test_the_feed_is_reached_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, context = certificate(tmp_path, "DNS:feed.invalid")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    proxy = Proxy(refuses=1)

    async def work() -> list[bytes | str]:
        async with serve(one_frame, "127.0.0.1", 0, ssl=context) as server, proxy.running():
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            return await frames_of(f"wss://feed.invalid:{server.sockets[0].getsockname()[1]}")

    with capture_logs() as logs:
        frames = run(work())

    assert frames == ["hello"]
    assert len(proxy.asked) == 2
    assert proxy.asked[0].startswith("CONNECT feed.invalid:")
    (refused,) = (entry for entry in logs if entry["event"] == "feed_unreachable")
    assert refused["error"] == "the proxy answers HTTP 407"


def test_a_feed_on_this_machine_needs_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def work() -> list[bytes | str]:
        async with serve(one_frame, "127.0.0.1", 0) as server:
            return await frames_of(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert run(work()) == ["hello"]


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "http://me:secret@proxy:3128"}, "http://me:secret@proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "localhost,.finnhub.io"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, None),
    ],
)
def test_which_proxy_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_of("wss://ws.finnhub.io") == proxy


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("ftp://me:secret@proxy:21", "is not a valid address: correct HTTPS_PROXY"),
        ("http://me:secret@proxy:port", "is not a valid address: correct HTTPS_PROXY"),
        ("http://me@proxy:3128", "is not a valid address: correct HTTPS_PROXY"),
        ("socks5://me:secret@proxy:1080", "needs the package python-socks"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str, said: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(UsageError, match=said) as caught:
        proxy_of("wss://ws.finnhub.io")
    assert "secret" not in str(caught.value)


def test_a_certificate_that_does_not_verify_is_named_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, context = certificate(tmp_path, "DNS:localhost")

    async def work() -> list[bytes | str]:
        async with serve(one_frame, "127.0.0.1", 0, ssl=context) as server:
            url = f"wss://localhost:{server.sockets[0].getsockname()[1]}"
            lost = asyncio.Semaphore(0)
            reading = asyncio.create_task(frames_of(url, lost))
            for _ in range(2):
                await lost.acquire()
            monkeypatch.setenv("SSL_CERT_FILE", str(file))
            return await reading

    with capture_logs() as logs:
        frames = run(work())

    assert frames == ["hello"]
    errors = [entry["error"] for entry in logs if entry["event"] == "feed_unreachable"]
    assert len(errors) >= 2
    for error in errors:
        assert error.startswith("the certificate of localhost does not verify (self-signed")
        assert "SSL_CERT_FILE" in error


def test_an_authority_that_does_not_say_what_its_key_is_for_is_trusted_on_every_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    issued = authority.issue("feed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))

    async def work() -> list[bytes | str]:
        async with serve(one_frame, "127.0.0.1", 0, ssl=context) as server:
            return await frames_of(f"wss://localhost:{server.sockets[0].getsockname()[1]}")

    assert run(work()) == ["hello"]


def test_a_server_without_tls_is_said_and_tried_again() -> None:
    async def no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(no_tls, "127.0.0.1", 0)
        lost = asyncio.Semaphore(0)
        async with server:
            url = f"wss://localhost:{server.sockets[0].getsockname()[1]}"
            reading = asyncio.create_task(frames_of(url, lost))
            for _ in range(2):
                await lost.acquire()
            reading.cancel()
            # From Python 3.12 on a server that closes waits for its connections.
            await asyncio.gather(reading, return_exceptions=True)

    with capture_logs() as logs:
        run(work())

    errors = {entry["error"] for entry in logs if entry["event"] == "feed_unreachable"}
    assert errors == {"no TLS with localhost (WRONG_VERSION_NUMBER)"}
