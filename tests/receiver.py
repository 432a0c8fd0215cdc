"""A receiver of webhooks on loopback that fails, hangs, goes and comes back as it is told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK

KEY = b"tapeline watch signs each event!"
SECRET = "whsec_dGFwZWxpbmUgd2F0Y2ggc2lnbnMgZWFjaCBldmVudCE="
"""The same key as it is set."""
_TOLERANCE_S = 300


class Receiver:
    """What came; `mode` is the status to answer with, or `hang`."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port(0)
        self.url = f"http://{LOOPBACK}:{self.port}/hook"
        self.mode: int | str = 200
        self.headers: dict[str, str] = {}
        self.taken: list[dict[str, Any]] = []
        self.attempts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ids(self) -> set[str]:
        """The ids of all events that were taken."""
        return {event["id"] for event in self.taken}

    def take(self, headers: Any, body: bytes) -> int | None:
        """Look at a request as a receiver should; return the status, None to say nothing."""
        name, sent = headers["webhook-id"], headers["webhook-timestamp"]
        digest = hmac.new(KEY, f"{name}.{sent}.".encode() + body, hashlib.sha256).digest()
        wanted = f"v1,{base64.b64encode(digest).decode()}"
        is_signed = hmac.compare_digest(wanted, headers["webhook-signature"])
        if not is_signed or abs(time.time() - int(sent)) > _TOLERANCE_S:
            self.wrong.append(name)
        self.attempts[name] += 1
        if self.mode == "hang":
            self._released.wait(60)
            return None
        status = int(self.mode)
        if 200 <= status < 300:
            self.taken.append({"id": name, **json.loads(body)})
        return status

    def start(self) -> None:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.take(self.headers, body)
                if status is None:
                    return
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._released.clear()
        self._server = ThreadingHTTPServer((LOOPBACK, self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Be gone: connections are refused."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver for a while."""
    receiver = Receiver()
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
