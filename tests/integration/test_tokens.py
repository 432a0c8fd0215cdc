"""A Kafka that takes tokens: the way of a tape, and each fault's sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeline.kafka.client import client_options
from tapeline.kafka.topics import topic_admin
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.model.bar import Interval
from tapeline.model.errors import AccessError, ServiceUnavailableError
from tapeline.program.service_settings import KafkaSettings
from tapeline.program.settings import load_settings
from tests.certificates import Authority
from tests.command_lines import CommandLines
from tests.commands import DRIVER, rows_of_layers, run, stored_bars
from tests.hand import TAPE, TRADES, hand_bars
from tests.secured import PASSWORD, USER, SecuredKafka, secured_kafka
from tests.token_server import SCOPE_OF_ANOTHER

PREFIX = "TAPELINE_KAFKA__"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tokens") / "authority")


@pytest.fixture(scope="module")
def kafka(
    home: Home, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[SecuredKafka]:
    with secured_kafka(home, tmp_path_factory.mktemp("token broker") / "kafka", authority) as one:
        yield one


@pytest.fixture
def access(monkeypatch: pytest.MonkeyPatch, kafka: SecuredKafka, authority: Authority):
    """Return a function that sets what the listener for tokens wants, and what a test changes."""

    def settings(**changed: object) -> KafkaSettings:
        usual = {
            "BOOTSTRAP_SERVERS": kafka.servers("token"),
            "SECURITY_PROTOCOL": "SASL_SSL",
            "CA_FILE": authority.certificate,
            "SASL_MECHANISM": "OAUTHBEARER",
            "USERNAME": USER,
            "PASSWORD": PASSWORD,
            "TOKEN_URL": kafka.tokens.url,
            "TOKEN_CA_FILE": authority.certificate,
        }
        for name in os.environ:
            if name.startswith(PREFIX):
                monkeypatch.delenv(name)
        for name, value in (usual | changed).items():
            if value is not None:
                monkeypatch.setenv(PREFIX + name, str(value))
        return load_settings().kafka

    return settings


def is_let_in(kafka: KafkaSettings) -> bool:
    return bool(topic_admin(str(kafka.bootstrap_servers), kafka).list_topics(timeout=60).brokers)


def refusal(kafka: KafkaSettings) -> str:
    with pytest.raises(AccessError) as raised:
        topic_admin(str(kafka.bootstrap_servers), kafka)
    assert raised.value.exit_code == 2
    text = str(raised.value)
    assert text.count("\n") == 0
    assert text.count(".") >= 1
    assert PREFIX in text
    assert PASSWORD not in text
    return text


def test_the_identity_provider_is_trusted_by_its_file_or_as_the_machine_does(
    monkeypatch, access, authority, tmp_path
):
    assert is_let_in(access())
    stranger = Authority(tmp_path / "stranger")
    text = refusal(access(TOKEN_CA_FILE=stranger.certificate))
    assert "cannot be asked for a token: its certificate is not signed by a trusted auth" in text
    assert "TAPELINE_KAFKA__TOKEN_CA_FILE" in text

    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    assert is_let_in(access(TOKEN_CA_FILE=None))


@pytest.mark.parametrize("wrong", [{"PASSWORD": "wr0ng"}, {"USERNAME": "nobody"}])
def test_a_client_that_the_identity_provider_does_not_know(access, kafka, wrong):
    text = refusal(access(**wrong))
    client = wrong.get("USERNAME", USER)
    assert f"{kafka.tokens.url} gives client {client} no token " in text
    assert "(invalid_client): check TAPELINE_KAFKA__USERNAME, TAPELINE" in text
    assert "wr0ng" not in text


def test_a_token_for_another_audience(access, kafka):
    text = refusal(access(TOKEN_SCOPE=SCOPE_OF_ANOTHER))
    assert f"Kafka at {kafka.servers('token')} refuses the token of client {USER}: " in text
    assert "expects another issuer, audience or scope; check TAPELINE_KAFKA__TOKEN_URL" in text


def test_a_listener_without_tokens(access, kafka):
    text = refusal(access(BOOTSTRAP_SERVERS=kafka.servers("login")))
    assert f"{kafka.servers('login')} does not take OAUTHBEARER: set TAPELINE_KAFKA__SASL" in text


def test_an_identity_provider_that_does_not_answer(access):
    settings = access(TOKEN_URL=f"https://{LOOPBACK}:{free_port(0)}/token")
    with pytest.raises(ServiceUnavailableError) as raised:
        topic_admin(str(settings.bootstrap_servers), settings)
    assert raised.value.exit_code == 3
    assert f"{settings.token_url} does not answer, so there is no token" in str(raised.value)


def test_a_tape_goes_all_the_way_by_tokens_and_no_secret_is_seen(
    access, kafka: SecuredKafka, stack: Endpoints, home: Home
) -> None:
    settings = access()
    kafka.tokens.clients.clear()

    with CommandLines() as seen:
        output = run("replay", str(TAPE), "--policy", "sip")

    assert stack.bootstrap_servers != settings.bootstrap_servers
    assert rows_of_layers(output)["trades_silver"] == TRADES
    wanted = hand_bars(Interval.FIVE_MINUTES)
    found = stored_bars({symbol for symbol, _ in wanted}, "5m", "replay")
    assert {key: bar["close"] for key, bar in found.items()} == {
        key: bar["close"] for key, bar in wanted.items()
    }
    agents = {agent.partition("/")[0] for agent in kafka.tokens.clients}
    assert agents >= {"", "Java"}  # librdkafka gives no name

    secret = "not-for-others"  # what no quoting changes of it
    assert secret in PASSWORD
    assert secret in str(client_options("", settings))
    assert any(DRIVER in line for line in seen.lines)
    assert not any(secret in line for line in seen.lines)
    written = [p for p in home.root.rglob("*") if p.is_file() and "jars" not in p.parts]
    texts = {p: p.read_bytes() for p in written if p.suffix != ".jsa"}
    texts[Path("output")] = output.encode()
    assert any(p.suffix == ".log" for p in texts)
    hidden = [secret, *kafka.tokens.given]
    assert [(p, s) for p, text in texts.items() for s in hidden if s.encode() in text] == []
