"""Kafka in KRaft mode as one local process, broker and controller together."""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tapeline.local.class_archive import use_archive
from tapeline.local.ports import PortClaims
from tapeline.local.service import LOOPBACK, RunningService, ServicePlace, start_service
from tapeline.local.state import KAFKA
from tapeline.model.errors import LocalStackError
from tapeline.program.profile import Sizes

NAME: Final = KAFKA
PREFERRED_PORT: Final = 19092
_REQUEST_TIMEOUT_S: Final = 2.0
# It lives a second.
_TOOL_OPTIONS: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

_LOG4J: Final = """\
Configuration:
  Appenders:
    Console:
      name: out
      PatternLayout:
        pattern: "%d %p %c{1} %m%n"
  Loggers:
    Root:
      level: WARN
      AppenderRef:
        ref: out
"""


def start_kafka(
    place: ServicePlace, sizes: Sizes, preferred_port: int = PREFERRED_PORT
) -> RunningService:
    """Format the storage if it is new, and start the broker on loopback.

    Raises:
        LocalStackError: the storage cannot be formatted.
    """
    data = place.data
    data.mkdir(parents=True, exist_ok=True)
    properties = data / "server.properties"
    logging = data / "log4j2.yaml"
    logging.write_text(_LOG4J, encoding="utf-8")
    java = str(place.java_home / "bin" / "java")
    class_path = str(place.jars / "*")
    common = [f"-Dlog4j2.configurationFile={logging.as_uri()}", "-cp", class_path]
    with PortClaims() as claims:
        port = claims.take(preferred_port)
        text = _properties(port, claims.take(PREFERRED_PORT + 1), sizes.kafka_properties)
        properties.write_text(text, encoding="utf-8")
        if not (data / "log" / "meta.properties").exists():
            tool = [java, *_TOOL_OPTIONS, *common, "kafka.tools.StorageTool"]
            _format_storage(tool, properties, place.environment)
        archive = use_archive(place.class_archives, NAME, place.java_home, class_path)
        command = [java, *sizes.kafka.arguments, *archive.options, *common]
        service = start_service(
            NAME,
            [*command, "kafka.Kafka", str(properties)],
            port=port,
            log=place.log,
            environment=place.environment,
            folder=data,
            inherits=claims.descriptors,
        )
    archive.started(service.pid)
    return service


def kafka_answers(port: int) -> bool:
    """Ask the broker for its metadata."""
    admin = AdminClient({"bootstrap.servers": f"{LOOPBACK}:{port}", "log_level": 0})
    try:
        return bool(admin.list_topics(timeout=_REQUEST_TIMEOUT_S).brokers)
    except KafkaException:
        return False


def _format_storage(tool: list[str], properties: Path, environment: Mapping[str, str]) -> None:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # One argument: an id may begin with a dash.
    command = [*tool, "format", f"--cluster-id={cluster_id}", "--config", str(properties)]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=dict(environment),
        cwd=properties.parent,
        check=False,
    )
    if run.returncode != 0:
        message = f"Kafka's storage cannot be formatted: {run.stdout[-500:]}{run.stderr[-500:]}"
        raise LocalStackError(message)


def _properties(port: int, controller_port: int, sizes: Mapping[str, Any]) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        # Below the folder in which it runs: Java reads such a file as Latin-1, and this is a list.
        "log.dirs": "log",
        "num.partitions": 1,
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "message.max.bytes": 16 * 1024 * 1024,
        # Deleted topics free their disk at once instead of after a minute.
        "log.segment.delete.delay.ms": 1000,
        **sizes,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())
