"""Kafka and Cassandra behind TLS and passwords: the way of a tape, and each fault's sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

import pyspark
import pytest

from tapeline.kafka.topics import topic_admin
from tapeline.local.home import Home
from tapeline.model.bar import Interval
from tapeline.model.errors import AccessError
from tapeline.program.settings import Settings, load_settings
from tapeline.read.bars import read_bars
from tapeline.storage.cassandra_client import CassandraClient
from tests.certificates import ELSEWHERE, Authority
from tests.command_lines import CommandLines
from tests.commands import DRIVER, rows_of_layers, run
from tests.hand import TAPE, TRADES, hand_bars
from tests.secured import (
    CQL_PASSWORD,
    CQL_USER,
    PASSWORD,
    USER,
    SecuredCassandra,
    SecuredKafka,
    secured_cassandra,
    secured_kafka,
)
from tests.tls_server import tls_server

HOST = "127.0.0.1"
IN_THE_CLEAR = dict.fromkeys(("TLS", "CA_FILE", "CERTIFICATE_FILE", "KEY_FILE"), "")
VALUES = ("open", "high", "low", "close", "volume", "trade_count")
KAFKA, CASSANDRA = "TAPELINE_KAFKA__", "TAPELINE_CASSANDRA__"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wire")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder / "authority")


@pytest.fixture(scope="module")
def kafka(home: Home, folder: Path, authority: Authority) -> Iterator[SecuredKafka]:
    with secured_kafka(home, folder / "kafka", authority) as running:
        yield running


@pytest.fixture(scope="module")
def cassandra(home: Home, folder: Path, authority: Authority) -> Iterator[SecuredCassandra]:
    with secured_cassandra(home, folder / "cassandra", authority) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith((KAFKA, CASSANDRA)):
            monkeypatch.delenv(name)


def settings_of(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, object]) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    return load_settings()


def kafka_values(kafka: SecuredKafka, listener: str, **values: object) -> dict[str, object]:
    return {
        f"{KAFKA}BOOTSTRAP_SERVERS": kafka.servers(listener),
        **{f"{KAFKA}{name}": value for name, value in values.items()},
    }


def login(authority: Authority, mechanism: str = "SCRAM-SHA-512") -> dict[str, object]:
    return {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "CA_FILE": authority.certificate,
        "SASL_MECHANISM": mechanism,
        "USERNAME": USER,
        "PASSWORD": PASSWORD,
    }


def cassandra_values(port: int, authority: Authority, **values: object) -> dict[str, object]:
    usual = {
        "HOST": HOST,
        "PORT": port,
        "TLS": "true",
        "CA_FILE": authority.certificate,
        "CERTIFICATE_FILE": authority.ours.certificate,
        "KEY_FILE": authority.ours.key,
        "USERNAME": CQL_USER,
        "PASSWORD": CQL_PASSWORD,
    }
    return {f"{CASSANDRA}{name}": value for name, value in (usual | values).items() if value != ""}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_each_way_to_log_in_to_kafka_lets_us_in(monkeypatch, kafka, authority, mechanism):
    values = kafka_values(kafka, "login", **login(authority, mechanism))
    access = settings_of(monkeypatch, values).kafka
    assert topic_admin(kafka.servers("login"), access).list_topics(timeout=60).brokers


def test_a_broker_that_wants_a_certificate_of_ours_gets_it(monkeypatch, kafka, authority):
    values = kafka_values(
        kafka,
        "mutual",
        SECURITY_PROTOCOL="SSL",
        CA_FILE=authority.certificate,
        CERTIFICATE_FILE=authority.ours.certificate,
        KEY_FILE=authority.ours.key,
    )
    access = settings_of(monkeypatch, values).kafka
    assert topic_admin(kafka.servers("mutual"), access).list_topics(timeout=60).brokers


def kafka_fault(monkeypatch, kafka, listener, **values) -> str:
    access = settings_of(monkeypatch, kafka_values(kafka, listener, **values)).kafka
    with pytest.raises(AccessError) as raised:
        topic_admin(kafka.servers(listener), access)
    assert raised.value.exit_code == 2
    text = str(raised.value)
    assert kafka.servers(listener) in text
    assert text.count("\n") == 0
    return text


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize("wrong", [{"PASSWORD": "wr0ng"}, {"USERNAME": "nobody"}])
def test_a_wrong_log_in_to_kafka(monkeypatch, kafka, authority, mechanism, wrong):
    text = kafka_fault(monkeypatch, kafka, "login", **(login(authority, mechanism) | wrong))
    user = wrong.get("USERNAME", USER)
    assert f"refuses user {user}: the password is wrong or there is no such user; check" in text
    assert "wr0ng" not in text


def test_faults_of_kafkas_certificates(monkeypatch, kafka, authority, folder):
    stranger = Authority(folder / "stranger")
    tls = {"SECURITY_PROTOCOL": "SSL", "CA_FILE": authority.certificate}

    text = kafka_fault(monkeypatch, kafka, "tls", **(tls | {"CA_FILE": stranger.certificate}))
    assert "its certificate is not signed by a trusted authority" in text
    assert "TAPELINE_KAFKA__CA_FILE" in text
    assert "has expired" in kafka_fault(monkeypatch, kafka, "expired", **tls)
    text = kafka_fault(monkeypatch, kafka, "elsewhere", **tls)
    assert "its certificate is of another host than 127.0.0.1" in text
    assert "does not speak TLS" in kafka_fault(monkeypatch, kafka, "open", **tls)


def test_kafka_that_speaks_tls_asked_in_the_clear(monkeypatch, kafka):
    text = kafka_fault(monkeypatch, kafka, "tls")
    assert "it speaks TLS; set TAPELINE_KAFKA__SECURITY_PROTOCOL to SSL or SASL_SSL." in text


def cassandra_fault(monkeypatch, port, authority, **values) -> str:
    given = cassandra_values(port, authority, **values)
    settings = settings_of(monkeypatch, given).cassandra
    with pytest.raises(AccessError) as raised:
        CassandraClient(settings, HOST, port)
    text = str(raised.value)
    assert f"Cassandra at {HOST}:{port}" in text
    assert text.count("\n") == 0
    for name in given:
        monkeypatch.delenv(name)
    return text


def test_faults_of_cassandra(monkeypatch, cassandra, authority, folder):
    port = cassandra.tls
    text = cassandra_fault(monkeypatch, port, authority, PASSWORD="wr0ng")  # noqa: S106 - it is nobody's
    assert f"refuses user {CQL_USER}: the password is wrong or there is no such user" in text
    assert "wr0ng" not in text
    text = cassandra_fault(monkeypatch, port, authority, USERNAME="nobody")
    assert "refuses user nobody: the password is wrong or there is no such user" in text
    text = cassandra_fault(monkeypatch, port, authority, USERNAME="", PASSWORD="")
    assert "wants a user and a password: set TAPELINE_CASSANDRA__USERNAME" in text

    stranger = Authority(folder / "stranger of cassandra")
    text = cassandra_fault(monkeypatch, port, authority, CA_FILE=stranger.certificate)
    assert "its certificate is not signed by a trusted authority" in text
    text = cassandra_fault(monkeypatch, port, authority, **IN_THE_CLEAR)
    assert "it speaks TLS; set TAPELINE_CASSANDRA__TLS=true." in text
    assert "does not speak TLS" in cassandra_fault(monkeypatch, cassandra.open, authority)
    for issued, said in (
        (authority.issue("old", days=0), "its certificate has expired"),
        (authority.issue("far", ELSEWHERE), "its certificate is of another host than 127.0.0.1"),
    ):
        with tls_server(issued) as port:
            assert said in cassandra_fault(monkeypatch, port, authority)


def test_a_tape_goes_all_the_way_and_no_secret_is_seen(
    monkeypatch, tmp_path, home, kafka, cassandra, authority
):
    configuration = tmp_path / "spark"
    events = tmp_path / "events"
    configuration.mkdir()
    events.mkdir()
    (configuration / "spark-defaults.conf").write_text(
        f"spark.eventLog.enabled true\nspark.eventLog.dir {events.as_uri()}\n", encoding="utf-8"
    )
    values = {
        **kafka_values(kafka, "login", **login(authority)),
        **cassandra_values(cassandra.tls, authority),
        # As our image has it, so that the folder of defaults is kept.
        "SPARK_HOME": Path(pyspark.__path__[0]),
        "SPARK_CONF_DIR": configuration,
    }
    settings_of(monkeypatch, values)

    with CommandLines() as seen:
        output = run("replay", str(TAPE), "--policy", "sip")

    assert rows_of_layers(output)["trades_silver"] == TRADES
    wanted = hand_bars(Interval.FIVE_MINUTES)
    first, end = (
        datetime(2024, 3, 15, tzinfo=timezone.utc),
        datetime(2024, 3, 16, tzinfo=timezone.utc),
    )
    read = {
        (row["symbol"], row["window_start"]): {name: row[name] for name in VALUES}
        for symbol in {symbol for symbol, _ in wanted}
        for row in read_bars(symbol, "5m", first, end, keyspace="replay", exact=True).to_pylist()
    }
    assert read == {key: {n: bar[n] for n in VALUES} for key, bar in wanted.items()}

    key = authority.ours.key.read_text().split("\n")[1]
    secrets = ["cassandra-pa$$", "not-for-others", key]  # what no quoting changes of each
    assert all(secret in CQL_PASSWORD + PASSWORD + key for secret in secrets)
    assert any(DRIVER in line for line in seen.lines)
    assert any("'SPARK_CONF_DIR'" in line for line in seen.lines)
    assert [s for s in secrets if any(s in line for line in seen.lines)] == []
    written = [p for p in (*home.root.rglob("*"), *events.rglob("*")) if p.is_file()]
    assert any(p.is_relative_to(events) for p in written)
    texts = {p: p.read_bytes() for p in written if "jars" not in p.parts and p.suffix != ".jsa"}
    texts[Path("output")] = output.encode()
    assert [(p, s) for p, text in texts.items() for s in secrets if s.encode() in text] == []


READ_BY_SPARK = """
from tapeline.consumer.session import build_session
from tapeline.local.discovery import find_endpoints
from tapeline.program.settings import load_settings

settings = load_settings()
session = build_session(settings, find_endpoints(settings))
reader = session.read.format("org.apache.spark.sql.cassandra")
reader.options(keyspace="replay", table="trades_silver").load()
"""


def test_spark_too_refuses_a_node_of_another_host(monkeypatch, authority):
    with tls_server(authority.issue("far of spark", ELSEWHERE)) as port:
        settings_of(monkeypatch, cassandra_values(port, authority))
        reading = subprocess.run(
            [sys.executable, "-c", READ_BY_SPARK], capture_output=True, text=True, check=False
        )
    assert reading.returncode == 1
    assert "SSLHandshakeException: No subject alternative DNS name matching" in reading.stderr
    assert CQL_PASSWORD not in reading.stderr + reading.stdout
