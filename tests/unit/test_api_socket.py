"""The socket that the API listens on."""

from __future__ import annotations

import socket

from tapeline.api.main import listen
from tapeline.local.service import LOOPBACK


def test_an_accepted_connection_sends_at_once():
    with listen(LOOPBACK, 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
