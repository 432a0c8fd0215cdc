"""Getting into Kafka and Cassandra: what is refused before anything starts, what clients are told.

The names of options are those of librdkafka's, Kafka's and the connector's own documentation.
"""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import ssl
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tapeline.kafka.client import ClientLog, client_options, java_options
from tapeline.kafka.topics import topic_admin
from tapeline.local.ports import free_port
from tapeline.model.errors import AccessError, UsageError
from tapeline.program.settings import load_settings
from tapeline.program.tls import TlsFiles, speaks_tls, why_no_tls
from tapeline.storage.access import access_options
from tests.certificates import ELSEWHERE, Authority, Issued, openssl
from tests.commands import wait_for
from tests.tls_server import tls_server

KAFKA = "TAPELINE_KAFKA__"
CASSANDRA = "TAPELINE_CASSANDRA__"
SERVERS = {"BOOTSTRAP_SERVERS": "kafka.example:9093"}
LOGIN = {"SASL_MECHANISM": "SCRAM-SHA-512", "USERNAME": "anna", "PASSWORD": "s3cret"}
TOKENS = {**LOGIN, "SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "OAUTHBEARER"}
SOURCES = Path(__file__).parents[2] / "src" / "tapeline"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "authority")


@pytest.fixture(scope="module")
def ours(authority) -> Issued:
    return authority.issue("ours")


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("TAPELINE_"):
            monkeypatch.delenv(name)


def kafka_of(monkeypatch, **values):
    return load(monkeypatch, KAFKA, values).kafka


def load(monkeypatch, prefix, values):
    for name, value in values.items():
        monkeypatch.setenv(prefix + name, str(value))
    return load_settings()


def refusal(monkeypatch, prefix, values) -> str:
    with pytest.raises(UsageError) as raised:
        load(monkeypatch, prefix, values)
    assert raised.value.exit_code == 2
    return str(raised.value)


KAFKA_REFUSALS = [
    ({"SECURITY_PROTOCOL": "SSL"}, "SECURITY_PROTOCOL needs TAPELINE_KAFKA__BOOTSTRAP_SERVERS"),
    ({**SERVERS, "SECURITY_PROTOCOL": "TLS"}, "should be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT'"),
    ({**SERVERS, "SECURITY_PROTOCOL": "SASL_SSL"}, "SASL_SSL needs TAPELINE_KAFKA__SASL_MECH"),
    ({**SERVERS, **LOGIN}, "TAPELINE_KAFKA__SASL_MECHANISM is used with SASL alone"),
    ({**SERVERS, "PASSWORD": "s3cret"}, "TAPELINE_KAFKA__PASSWORD is used with SASL alone"),
    (
        {**SERVERS, "SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN", "PASSWORD": "s"},
        "SASL_SSL needs TAPELINE_KAFKA__USERNAME",
    ),
    (
        {**SERVERS, "SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN", "USERNAME": "a"},
        "SASL_SSL needs TAPELINE_KAFKA__PASSWORD",
    ),
    (
        {**SERVERS, **LOGIN, "SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "MD5"},
        "should be 'PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512' or 'OAUTHBEARER'",
    ),
    ({**SERVERS, **TOKENS}, "OAUTHBEARER needs TAPELINE_KAFKA__TOKEN_URL: set both."),
    (
        {**SERVERS, **TOKENS, "TOKEN_URL": "login.example/token"},
        "it is not a valid address: give one such as https://login.example/oauth2/token",
    ),
    (
        {**SERVERS, **TOKENS, "TOKEN_URL": "https://anna:s3cret@login.example/token"},
        "give the address without a secret, which goes into TAPELINE_KAFKA__PASSWORD",
    ),
    (
        {**SERVERS, **LOGIN, "SECURITY_PROTOCOL": "SASL_SSL", "TOKEN_SCOPE": "kafka"},
        "TAPELINE_KAFKA__TOKEN_SCOPE is used with tokens alone: set TAPELINE_KAFKA__SASL_MECHA",
    ),
    ({"CA_FILE": "/no/ca.pem"}, "cannot be read (No such file or directory): name a PEM file"),
    ({"CA_FILE": "/"}, "cannot be read (Is a directory): name a PEM file"),
    ({"CA_FILE": __file__}, "holds no certificates: name a PEM file of them"),
]


@pytest.mark.parametrize(("values", "said"), KAFKA_REFUSALS)
def test_what_contradicts_itself_for_kafka_is_refused(monkeypatch, values, said):
    sentence = refusal(monkeypatch, KAFKA, values)
    assert said in sentence
    assert "TAPELINE_KAFKA__" in sentence
    assert sentence.endswith(".")
    assert "s3cret" not in sentence


CASSANDRA_REFUSALS = [
    ({"TLS": "true"}, "TAPELINE_CASSANDRA__TLS needs TAPELINE_CASSANDRA__HOST: set both."),
    ({"HOST": "db", "PASSWORD": "s3cret"}, "PASSWORD needs TAPELINE_CASSANDRA__USERNAME"),
    ({"HOST": "db", "USERNAME": "anna"}, "USERNAME needs TAPELINE_CASSANDRA__PASSWORD"),
    ({"USERNAME": "anna", "PASSWORD": "s3cret"}, "USERNAME needs TAPELINE_CASSANDRA__HOST"),
    (
        {"HOST": "db", "CA_FILE": "/no/ca.pem"},
        "TAPELINE_CASSANDRA__CA_FILE: '/no/ca.pem' cannot be read",
    ),
]


@pytest.mark.parametrize(("values", "said"), CASSANDRA_REFUSALS)
def test_what_contradicts_itself_for_cassandra_is_refused(monkeypatch, values, said):
    sentence = refusal(monkeypatch, CASSANDRA, values)
    assert said in sentence
    assert sentence.endswith(".")
    assert "s3cret" not in sentence


@pytest.mark.parametrize("name", ["KAFKA", "CASSANDRA"])
def test_files_without_tls_are_refused(monkeypatch, authority, name):
    values = {"CA_FILE": authority.certificate}
    sentence = refusal(monkeypatch, f"TAPELINE_{name}__", values)
    assert f"TAPELINE_{name}__CA_FILE is used with TLS alone: set TAPELINE_{name}__" in sentence


def test_a_certificate_goes_with_its_key(monkeypatch, authority, ours, tmp_path):
    tls = {**SERVERS, "SECURITY_PROTOCOL": "SSL"}
    alone = refusal(monkeypatch, KAFKA, {**tls, "CERTIFICATE_FILE": ours.certificate})
    assert "CERTIFICATE_FILE needs TAPELINE_KAFKA__KEY_FILE: set both." in alone

    other = authority.issue("other")
    wrong = refusal(monkeypatch, KAFKA, {"KEY_FILE": other.key})
    assert "the key is of another one" in wrong

    locked = tmp_path / "locked.key"
    openssl("pkcs8", "-topk8", "-in", ours.key, "-out", locked, "-passout", "pass:x")
    assert "without a passphrase" in refusal(monkeypatch, KAFKA, {"KEY_FILE": locked})

    assert load(monkeypatch, KAFKA, {"KEY_FILE": ours.key}).kafka.key_file == ours.key


def test_a_password_with_a_control_character_is_refused_and_not_shown(monkeypatch):
    login = {**SERVERS, **LOGIN, "SECURITY_PROTOCOL": "SASL_SSL", "PASSWORD": "s3cret\tx"}
    sentence = refusal(monkeypatch, KAFKA, login)
    assert "has no control characters" in sentence
    assert "s3cret" not in sentence


def test_passwords_are_shown_nowhere(monkeypatch):
    load(monkeypatch, KAFKA, {**SERVERS, **LOGIN, "SECURITY_PROTOCOL": "SASL_SSL"})
    values = {"HOST": "db", "USERNAME": "anna", "PASSWORD": "s3cret"}
    settings = load(monkeypatch, CASSANDRA, values)
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "s3cret" not in shown


def of_client(kafka):
    """Return the options of a client but for those that each has."""
    options = client_options("a:1", kafka)
    assert callable(options.pop("logger").log)
    assert options.pop("bootstrap.servers") == "a:1"
    assert options.pop("reconnect.backoff.ms") == 500
    return options


def test_without_settings_clients_are_told_the_address_alone(monkeypatch):
    kafka = kafka_of(monkeypatch)
    assert of_client(kafka) == {}
    assert java_options("a:1", kafka) == {"bootstrap.servers": "a:1"}
    assert access_options(load_settings().cassandra) == {}


def test_clients_of_kafka_get_what_is_set(monkeypatch, authority, ours):
    files = {
        "CA_FILE": authority.certificate,
        "CERTIFICATE_FILE": ours.certificate,
        "KEY_FILE": ours.key,
    }
    kafka = kafka_of(monkeypatch, **SERVERS, **LOGIN, **files, SECURITY_PROTOCOL="SASL_SSL")

    assert of_client(kafka) == {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(authority.certificate),
        "ssl.certificate.location": str(ours.certificate),
        "ssl.key.location": str(ours.key),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "anna",
        "sasl.password": "s3cret",
    }
    assert java_options("a:1", kafka) == {
        "bootstrap.servers": "a:1",
        "security.protocol": "SASL_SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": authority.certificate.read_text(),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": ours.certificate.read_text(),
        "ssl.keystore.key": ours.key.read_text(),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="anna" password="s3cret";',
    }


def test_clients_of_kafka_are_told_where_tokens_are(monkeypatch, authority):
    where = {"TOKEN_URL": "https://login.example/token", "TOKEN_SCOPE": "kafka"}
    trust = {"TOKEN_CA_FILE": authority.certificate}
    kafka = kafka_of(monkeypatch, **SERVERS, **TOKENS, **where, **trust)

    assert of_client(kafka) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": "https://login.example/token",
        "sasl.oauthbearer.client.id": "anna",
        "sasl.oauthbearer.client.secret": "s3cret",
        "sasl.oauthbearer.scope": "kafka",
        "https.ca.pem": authority.certificate.read_text(),
    }
    on_one_line = authority.certificate.read_text().replace("\n", "\\n")
    module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLogin"
    assert java_options("a:1", kafka) == {
        "bootstrap.servers": "a:1",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.login.callback.handler.class": f"{module}CallbackHandler",
        "sasl.oauthbearer.token.endpoint.url": "https://login.example/token",
        "sasl.jaas.config": f'{module}Module required clientId="anna" clientSecret="s3cret" '
        f'scope="kafka" ssl.truststore.type="PEM" ssl.truststore.certificates="{on_one_line}";',
    }


@contextmanager
def echoing(error: str) -> Iterator[str]:
    """Run an identity provider that refuses everybody, and repeats all that it was asked."""

    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
            login = b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
            answer = {"error": error, "asked": [asked, login, str(self.headers)]}
            body = json.dumps(answer).encode()
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("error", "said"),
    [("invalid_client", "invalid_client"), ("s3cret", "its answer has no error of OAuth 2.0")],
)
def test_no_answer_of_an_identity_provider_shows_the_secret(
    monkeypatch, caplog, capfd, error, said
):
    servers = {"BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port(0)}"}
    with echoing(error) as url:
        kafka = kafka_of(monkeypatch, **servers, **TOKENS, TOKEN_URL=url)
        with pytest.raises(AccessError) as raised:
            topic_admin(str(kafka.bootstrap_servers), kafka)
        consumer = Consumer(
            {**client_options(str(kafka.bootstrap_servers), kafka), "group.id": "x"}
        )
        try:
            wait_for(lambda: consumer.poll(0.2) or "no token" in caplog.text, 20)
        finally:
            consumer.close()
    assert f"gives client anna no token ({said}): check TAPELINE_KAFKA__USERNAME" in str(
        raised.value
    )
    assert f"no token: {said}\n" in caplog.text
    shown = f"{raised.value}{caplog.text}{''.join(capfd.readouterr())}"
    hidden = ("s3cret", b64encode(b"anna:s3cret").decode())
    assert [text for text in hidden if text in shown] == []


def test_a_client_without_a_kafka_logs_a_line_a_minute(monkeypatch, caplog, capfd):
    """librdkafka itself writes some two hundred in five seconds, the times in them differ."""
    servers = f"127.0.0.1:{free_port(0)}"
    minute = [0.0]
    logger = ClientLog(lambda: minute[0])
    options = client_options(servers, kafka_of(monkeypatch)) | {"logger": logger, "group.id": "x"}
    consumer = Consumer(options)
    try:
        consumer.assign([TopicPartition("t", 0)])
        consumer.consume(timeout=5)
        assert caplog.text.count("Connection refused") == 1
        minute[0] = 60.0
        wait_for(lambda: consumer.poll(0.2) or caplog.text.count("Connection refused") == 2, 20)
    finally:
        consumer.close()
    assert "".join(capfd.readouterr()) == ""


def test_quotes_in_a_password_stay_inside_it_for_java(monkeypatch):
    login = {"SASL_MECHANISM": "PLAIN", "USERNAME": "anna", "PASSWORD": 'a"; b="\\'}
    kafka = kafka_of(monkeypatch, **SERVERS, **login, SECURITY_PROTOCOL="SASL_SSL")
    assert java_options("a:1", kafka)["sasl.jaas.config"] == (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        r'username="anna" password="a\"; b=\"\\";'
    )


def test_the_driver_of_cassandra_verifies_certificate_and_host(monkeypatch, authority):
    tls = {"HOST": "db", "TLS": "true", "CA_FILE": authority.certificate}
    context = access_options(load(monkeypatch, CASSANDRA, tls).cassandra)["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)

    settings = load(monkeypatch, CASSANDRA, {"VERIFY_HOST_NAME": "false"})
    context = access_options(settings.cassandra)["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_what_is_wrong_with_a_certificate_is_said(authority, tmp_path):
    files = TlsFiles(authority.certificate)
    said = {
        "good": (authority.issue("good"), None),
        "old": (authority.issue("old", days=0), "its certificate has expired"),
        "far": (
            authority.issue("far", ELSEWHERE),
            "its certificate is of another host than 127.0.0.1",
        ),
    }
    for issued, reason in said.values():
        with tls_server(issued) as port:
            assert why_no_tls("127.0.0.1", port, files) == reason
            assert speaks_tls("127.0.0.1", port)

    stranger = Authority(tmp_path / "stranger").issue("good")
    with tls_server(stranger) as port:
        reason = why_no_tls("127.0.0.1", port, files)
        assert reason is not None
        assert re.match("its certificate is not signed by a trusted authority", reason)

    with tls_server(None) as port:
        assert why_no_tls("127.0.0.1", port, files) == "it does not speak TLS"
        assert not speaks_tls("127.0.0.1", port)


def test_where_nobody_listens_tls_is_not_what_is_wrong(authority):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert why_no_tls("127.0.0.1", port, TlsFiles(authority.certificate)) is None


def test_every_client_of_kafka_is_told_how_to_get_in():
    """One that was given an address alone would speak in the clear."""
    takes = {"topic_admin": 2, "KafkaProducer": 3, "TopicLog": 3, "TopicReader": 4}
    found, without = set(), []
    for path in SOURCES.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        own = path.relative_to(SOURCES).as_posix()
        if own not in {"kafka/client.py", "local/kafka.py"}:  # the local one asks nobody
            assert '"bootstrap.servers"' not in text, own
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name = node.func.id
                if name in takes:
                    found.add(name)
                    without += [(own, node.lineno)] * (len(node.args) < takes[name])
    assert found == takes.keys()
    assert without == []
