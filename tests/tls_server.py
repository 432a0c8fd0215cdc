"""A server of TLS handshakes, and one that speaks none, for whoever must tell them apart."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.certificates import Issued, tls_context


@contextmanager
def tls_server(issued: Issued | None) -> Iterator[int]:
    """Serve handshakes with a certificate, or close what connects as a plain broker does."""
    context = None if issued is None else tls_context(issued)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            with accepted:
                try:
                    if context is not None:
                        context.wrap_socket(accepted, server_side=True).close()
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()
