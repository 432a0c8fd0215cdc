"""Serve a process's metrics over HTTP while it runs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import start_http_server

from tapeline.model.errors import UsageError
from tapeline.program.merged_metrics import MergedMetrics
from tapeline.program.metrics import Metrics

log = structlog.get_logger()


@contextmanager
def serve_metrics(metrics: Metrics | MergedMetrics, host: str, port: int) -> Iterator[str | None]:
    """Serve metrics at `/metrics` during the block, in a thread that keeps no process alive.

    When the port is taken, a free one is used; the log says the address.

    Args:
        metrics: what to serve.
        host: address to listen on.
        port: 0 serves nothing.

    Yields:
        The URL, or None when nothing is served.

    Raises:
        UsageError: the address cannot be listened on.
    """
    if port == 0:
        yield None
        return
    server, thread = _listen(metrics, host, port)
    url = f"http://{host}:{server.server_port}/metrics"
    if server.server_port == port:
        log.info("metrics_served", url=url)
    else:
        log.warning("metrics_served", url=url, taken_port=port)
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listen(metrics: Metrics | MergedMetrics, host: str, port: int) -> tuple[WSGIServer, Thread]:
    try:
        return start_http_server(port, host, metrics.registry)
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE and port != 0:
            return _listen(metrics, host, 0)
        message = (
            f"Metrics cannot be served at {host}:{port} "
            f"({getattr(error, 'strerror', None) or error}): set "
            "TAPELINE_METRICS__HOST and the port, or the port to 0."
        )
        raise UsageError(message) from error
