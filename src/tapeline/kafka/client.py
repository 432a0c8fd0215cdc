"""How every client gets into Kafka."""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import SecretStr

from tapeline.kafka.no_access import oauth_error
from tapeline.program.service_settings import KafkaSettings, SaslMechanism
from tapeline.program.tls import authorities_in

# Not structlog: a command that has set up no log prints its result where that would write.
log = logging.getLogger(__name__)

_RECONNECT_MS: Final = 500
_REPEATED_S: Final = 60.0
_NUMBERS: Final = re.compile(r"\d+")
_OF_TOKENS: Final = "OIDC"
_OF_FIRST_IDS: Final = "GETPID"
"""A Kafka that has just started has no id for a producer yet, and is asked again."""
IN_THE_CLEAR: Final = KafkaSettings()
"""A Kafka that asks nobody who they are, as the local one."""


def client_options(bootstrap_servers: str, kafka: KafkaSettings) -> dict[str, Any]:
    """Return what a client of librdkafka needs to get in.

    Certificates and host names are always verified.
    """
    options: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        # Without any broker librdkafka begins anew, and its pauses never grow.
        "reconnect.backoff.ms": _RECONNECT_MS,
        "logger": ClientLog(),
    }
    protocol = kafka.security_protocol
    if protocol is IN_THE_CLEAR.security_protocol:
        return options
    options["security.protocol"] = protocol.value
    if protocol.has_tls:
        files = {
            "ssl.ca.location": kafka.ca_file,
            "ssl.certificate.location": kafka.certificate_file,
            "ssl.key.location": kafka.key_file,
        }
        options |= {name: str(file) for name, file in files.items() if file is not None}
    if protocol.has_sasl and kafka.sasl_mechanism is SaslMechanism.OAUTHBEARER:
        options |= _token_options(kafka)
    elif protocol.has_sasl and kafka.sasl_mechanism and kafka.password:
        options["sasl.mechanism"] = kafka.sasl_mechanism.value
        options["sasl.username"] = kafka.username
        options["sasl.password"] = kafka.password.get_secret_value()
    return options


def java_options(bootstrap_servers: str, kafka: KafkaSettings) -> dict[str, str]:
    """Return what a client in Java needs to get in, Spark's source among them.

    The certificates go along as text, so that no executor needs their files. The values hold
    secrets: they belong on no command line.
    """
    options = {"bootstrap.servers": bootstrap_servers}
    protocol = kafka.security_protocol
    if protocol is IN_THE_CLEAR.security_protocol:
        return options
    options["security.protocol"] = protocol.value
    if kafka.ca_file is not None:
        options["ssl.truststore.type"] = "PEM"
        options["ssl.truststore.certificates"] = kafka.ca_file.read_text(encoding="utf-8")
    if kafka.certificate_file is not None and kafka.key_file is not None:
        options["ssl.keystore.type"] = "PEM"
        chain = kafka.certificate_file.read_text(encoding="utf-8")
        options["ssl.keystore.certificate.chain"] = chain
        options["ssl.keystore.key"] = kafka.key_file.read_text(encoding="utf-8")
    if protocol.has_sasl and kafka.sasl_mechanism and kafka.username and kafka.password:
        options["sasl.mechanism"] = kafka.sasl_mechanism.value
        options |= _java_login(kafka.sasl_mechanism, kafka.username, kafka.password, kafka)
    return options


def _token_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Return what has librdkafka fetch tokens, and again before each expires."""
    secret = kafka.password.get_secret_value() if kafka.password else None
    options = {
        "sasl.mechanism": SaslMechanism.OAUTHBEARER.value,
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": kafka.token_url,
        "sasl.oauthbearer.client.id": kafka.username,
        "sasl.oauthbearer.client.secret": secret,
        "sasl.oauthbearer.scope": kafka.token_scope,
        # By itself it looks where the machine that it was built on keeps them.
        "https.ca.pem": "".join(map(ssl.DER_cert_to_PEM_cert, authorities_in(kafka.token_ca_file))),
    }
    return {name: value for name, value in options.items() if value}


class ClientLog:
    """Takes what a client of librdkafka logs.

    By itself it repeats what an identity provider answers, which may be our secret, and writes a
    line at each attempt to connect: in a night without Kafka a good part of a disk.

    Args:
        now_s: returns seconds that only grow.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._logged_s: dict[str, float] = {}

    def log(self, level: int, _form: str, facility: str, client: str, text: str) -> None:
        """Log a line unless it is, but for its numbers, as one of the last minute.

        Args:
            level: as Python counts them.
            facility: what of librdkafka it is about.
            client: the client's name.
            text: the line.
        """
        said = f"no token: {oauth_error(text)}" if facility == _OF_TOKENS else text
        kind, now_s = _NUMBERS.sub("", said), self._now_s()
        if now_s - self._logged_s.get(kind, -_REPEATED_S) >= _REPEATED_S:
            self._logged_s[kind] = now_s
            log.log(_level_of(facility, level), "%s: %s", client, said)


def _level_of(facility: str, level: int) -> int:
    return logging.INFO if facility == _OF_FIRST_IDS else level


def _java_login(
    mechanism: SaslMechanism, username: str, password: SecretStr, kafka: KafkaSettings
) -> dict[str, str]:
    secret = password.get_secret_value()
    if mechanism is not SaslMechanism.OAUTHBEARER:
        kind = "plain.Plain" if mechanism is SaslMechanism.PLAIN else "scram.Scram"
        return {"sasl.jaas.config": _jaas(kind, {"username": username, "password": secret})}
    login = {"clientId": username, "clientSecret": secret}
    if kafka.token_scope is not None:
        login["scope"] = kafka.token_scope
    if kafka.token_ca_file is not None:
        login["ssl.truststore.type"] = "PEM"
        login["ssl.truststore.certificates"] = kafka.token_ca_file.read_text(encoding="utf-8")
    return {
        "sasl.login.callback.handler.class": f"{_SECURITY}.{_BEARER}LoginCallbackHandler",
        "sasl.oauthbearer.token.endpoint.url": str(kafka.token_url),
        "sasl.jaas.config": _jaas(_BEARER, login),
    }


_SECURITY: Final = "org.apache.kafka.common.security"
_BEARER: Final = "oauthbearer.OAuthBearer"


def _jaas(kind: str, values: Mapping[str, str]) -> str:
    written = " ".join(f"{name}={_quoted(value)}" for name, value in values.items())
    return f"{_SECURITY}.{kind}LoginModule required {written};"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
