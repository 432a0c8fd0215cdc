"""Ask a service of docker-compose.yml whether it works; the exit code is 0 when it does.

`python scripts/health.py spark URL` asks a master or a worker, `stream URL` the master for the
stream of our keyspace, `simulator URL` the simulator, `api URL` the API whether it can read bars,
`producer` Kafka for this host's reports.
"""

import json
import socket
import sys
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tapeline.kafka.offsets import offsets_of
from tapeline.local.discovery import find_endpoints
from tapeline.model.feed_status import FeedStatus
from tapeline.program.settings import Settings, load_settings

TIMEOUT_S = 5.0
# The services are our own, whatever proxy the environment names.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
LAST_REPORTS = 100
REPORT_IS_OLD_AFTER_S = 30.0


def spark_works(url: str) -> bool:
    """Return whether a master is in charge, or a worker has a master."""
    state = _state(url)
    return state.get("status") == "ALIVE" or bool(state.get("masterurl"))


def stream_runs(url: str, settings: Settings) -> bool:
    """Return whether the master runs the stream of our keyspace."""
    name = f"tapeline-{settings.cassandra.keyspace}"
    apps = _state(url)["activeapps"]
    return any(app["name"] == name and app["state"] == "RUNNING" for app in apps)


def simulator_answers(url: str) -> bool:
    """Return whether it refuses a wrong key; a right one would throw its client out."""
    try:
        OPENER.open(f"{url}/?token=", timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        return error.code == HTTPStatus.UNAUTHORIZED
    return False


def api_is_ready(url: str) -> bool:
    """Return whether the API can read bars."""
    try:
        OPENER.open(f"{url}/health/ready", timeout=TIMEOUT_S)
    except OSError:
        return False
    return True


def producer_reports(settings: Settings) -> bool:
    """Return whether this host's producer has lately reported a connection to the feed."""
    consumer = Consumer(
        {
            "bootstrap.servers": find_endpoints(settings).bootstrap_servers,
            "group.id": "tapeline-health",
            "enable.auto.commit": False,
        }
    )
    try:
        first, end = offsets_of(consumer, settings.kafka.status_topic, 0)
        start = max(first, end - LAST_REPORTS)
        consumer.assign([TopicPartition(settings.kafka.status_topic, 0, start)])
        messages = consumer.consume(end - start, TIMEOUT_S)
    finally:
        consumer.close()
    since_ms = (time.time() - REPORT_IS_OLD_AFTER_S) * 1000
    recent = [m.value() for m in messages if not m.error() and m.timestamp()[1] >= since_ms]
    reports = [FeedStatus.from_bytes(value) for value in recent if value]
    ours = [r for r in reports if r.producer_id.startswith(f"{socket.gethostname()}-")]
    return bool(ours) and ours[-1].connected


def _state(url: str) -> Any:
    with OPENER.open(f"{url}/json/", timeout=TIMEOUT_S) as answer:
        return json.load(answer)


def main(service: str, url: str = "") -> bool:
    """Ask the service that is named."""
    if service == "producer":
        return producer_reports(load_settings())
    if service == "stream":
        return stream_runs(url, load_settings())
    checks = {"spark": spark_works, "simulator": simulator_answers, "api": api_is_ready}
    return checks[service](url)


sys.exit(not main(*sys.argv[1:]))
