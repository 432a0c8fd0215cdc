"""An identity provider on loopback: signed tokens for clients, and the key for brokers."""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from tests.certificates import Issued, openssl, tls_context

AUDIENCE, ISSUER = "kafka-of-the-test", "tokens-of-the-test"
SCOPE_OF_ANOTHER = "of-another-service"
"""With this scope a token is for another audience."""
_LIFE_S = 600
_KEY_ID = "first"
_MODULE = "org.apache.kafka.common.security.oauthbearer.OAuthBearer"


@dataclass(frozen=True)
class TokenServer:
    """Where tokens are, and who has got one."""

    url: str
    keys_url: str
    clients: list[str] = field(default_factory=list)
    """The user agent of each that was given a token."""
    given: list[str] = field(default_factory=list)
    """The tokens."""


@contextmanager
def token_server(folder: Path, issued: Issued, clients: dict[str, str]) -> Iterator[TokenServer]:
    """Serve tokens by TLS to clients who know their secret, and the key by plain HTTP.

    Args:
        folder: for the key that signs.
        issued: certificate of this server.
        clients: their secrets.
    """
    key = _Key(folder)
    agents: list[str] = []
    given: list[str] = []

    class Tokens(_Answers):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            form = parse_qs(self.rfile.read(length).decode())
            name, secret = self.client()
            if clients.get(name) != secret or form["grant_type"] != ["client_credentials"]:
                self.answer(401, {"error": "invalid_client"})
                return
            audience = "others" if form.get("scope") == [SCOPE_OF_ANOTHER] else AUDIENCE
            token = key.sign(name, audience)
            agents.append(self.headers.get("User-Agent", ""))
            given.append(token)
            self.answer(200, {"access_token": token, "expires_in": _LIFE_S, "token_type": "Bearer"})

    class Keys(_Answers):
        def do_GET(self) -> None:
            self.answer(200, {"keys": [key.public]})

    tokens = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    tokens.socket = tls_context(issued).wrap_socket(tokens.socket, server_side=True)
    keys = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    threads = [threading.Thread(target=server.serve_forever) for server in (tokens, keys)]
    for thread in threads:
        thread.start()
    try:
        yield TokenServer(
            f"https://127.0.0.1:{tokens.server_port}/token",
            f"http://127.0.0.1:{keys.server_port}/keys",
            agents,
            given,
        )
    finally:
        for server in (tokens, keys):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


def allowed_urls(server: TokenServer) -> str:
    """Return the option of a broker's Java that lets it fetch the key there."""
    return f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={server.keys_url}"


def broker_properties(server: TokenServer, listener: str) -> dict[str, str]:
    """Return what has a broker take the tokens of a server at one of its listeners."""
    prefix = f"listener.name.{listener}."
    return {
        f"{prefix}sasl.enabled.mechanisms": "OAUTHBEARER",
        f"{prefix}oauthbearer.sasl.jaas.config": f"{_MODULE}LoginModule required;",
        f"{prefix}oauthbearer.sasl.server.callback.handler.class": (
            f"{_MODULE}ValidatorCallbackHandler"
        ),
        "sasl.oauthbearer.jwks.endpoint.url": server.keys_url,
        "sasl.oauthbearer.expected.audience": AUDIENCE,
        "sasl.oauthbearer.expected.issuer": ISSUER,
    }


class _Answers(BaseHTTPRequestHandler):
    def client(self) -> tuple[str, str]:
        """Return name and secret of who asks."""
        encoded = self.headers["Authorization"].removeprefix("Basic ")
        name, _, secret = base64.b64decode(encoded).decode().partition(":")
        return name, secret

    def answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Key:
    """An RSA key, which signs JSON Web Tokens (RFC 7519) with RS256."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "tokens.key"
        openssl("genrsa", "-out", self._path, "2048")
        shown = openssl("rsa", "-in", self._path, "-noout", "-modulus").decode()
        modulus = bytes.fromhex(shown.strip().removeprefix("Modulus="))
        self.public = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": _KEY_ID,
            "n": _encoded(modulus),
            "e": _encoded(b"\x01\x00\x01"),
        }

    def sign(self, subject: str, audience: str) -> str:
        now_s = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": subject,
            "aud": audience,
            "iat": now_s,
            "exp": now_s + _LIFE_S,
            "jti": uuid.uuid4().hex,
        }
        parts = ({"alg": "RS256", "typ": "JWT", "kid": _KEY_ID}, claims)
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
        signature = openssl("dgst", "-sha256", "-sign", self._path, text=signed.encode())
        return f"{signed}.{_encoded(signature)}"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
