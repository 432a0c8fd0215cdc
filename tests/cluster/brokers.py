"""Three Kafka brokers, each a controller too; every topic is on all of them."""

from __future__ import annotations

import base64
import subprocess
import uuid
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tapeline.local.home import Home
from tapeline.local.jars import KAFKA_JARS, jar_folder
from tapeline.local.java import find_java, java_environment
from tapeline.local.service import LOOPBACK
from tapeline.program.profile import Profile
from tests.cluster.member import Member, own_ports

_COUNT = 3
_SMALL = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def make_brokers(home: Home, folder: Path) -> tuple[list[Member], str]:
    """Format three brokers; return them, and where they listen."""
    java_home = find_java()
    environment = java_environment(java_home)
    java = [java_home / "bin" / "java", *_SMALL, "-cp", jar_folder(home.jars, KAFKA_JARS) / "*"]
    ports, controllers = own_ports(_COUNT), own_ports(_COUNT)
    voters = ",".join(f"{n}@{LOOPBACK}:{port}" for n, port in enumerate(controllers, 1))
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    brokers = []
    for number, (port, controller) in enumerate(zip(ports, controllers, strict=True), 1):
        own = folder / f"broker-{number}"
        own.mkdir(parents=True)
        properties = own / "server.properties"
        properties.write_text(_properties(number, port, controller, voters), encoding="utf-8")
        tool = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}"]
        run = subprocess.run(
            [*tool, "--config", properties],
            env=environment,
            cwd=own,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        command = [*java, "kafka.Kafka", properties]
        answers = partial(_answers, f"{LOOPBACK}:{port}")
        brokers.append(Member(f"broker {number}", command, environment, own, answers))
    return brokers, ",".join(f"{LOOPBACK}:{port}" for port in ports)


def all_in_sync(servers: str, topic: str) -> bool:
    """Return whether every partition of a topic is whole on every broker."""
    try:
        found = AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(topic, 5)
    except KafkaException:
        return False
    partitions = found.topics[topic].partitions.values()
    return bool(partitions) and all(len(p.isrs) == _COUNT for p in partitions)


def _answers(server: str) -> bool:
    """Return whether a broker is one of the cluster."""
    try:
        found = AdminClient({"bootstrap.servers": server, "log_level": 0}).list_topics(timeout=5)
    except KafkaException:
        return False
    return f"{server}/" in " ".join(f"{b.host}:{b.port}/" for b in found.brokers.values())


def _properties(number: int, port: int, controller: int, voters: str) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": number,
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": "log",
        "auto.create.topics.enable": "false",
        "default.replication.factor": _COUNT,
        "min.insync.replicas": 2,
        "offsets.topic.replication.factor": _COUNT,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": _COUNT,
        "transaction.state.log.min.isr": 2,
        "message.max.bytes": 16 * 1024 * 1024,
        "replica.fetch.max.bytes": 16 * 1024 * 1024,
        **Profile.SMALL.sizes.kafka_properties,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())
