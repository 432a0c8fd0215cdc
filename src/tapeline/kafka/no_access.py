"""What to say of a Kafka that does not let us in, or does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from confluent_kafka import KafkaError
from pydantic import HttpUrl

from tapeline.model.errors import AccessError, ServiceUnavailableError
from tapeline.program.service_settings import KafkaSettings, SaslMechanism
from tapeline.program.tls import TlsFiles, answers, speaks_tls, why_no_tls

_NO_TOKEN: Final = "Failed to acquire SASL OAUTHBEARER token: "  # noqa: S105 - what librdkafka says
_OAUTH_ERRORS: Final = (
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
)
"""RFC 6749, section 5.2."""


def no_access(
    bootstrap_servers: str, kafka: KafkaSettings, errors: list[KafkaError]
) -> ServiceUnavailableError:
    """Return what to say of a Kafka that cannot be asked.

    Args:
        bootstrap_servers: of Kafka.
        kafka: how it was asked.
        errors: what the client called back with.
    """
    refusals = [e.str() for e in errors if e.code() == KafkaError._AUTHENTICATION]  # noqa: SLF001
    if refusals and refusals[-1].startswith(_NO_TOKEN):
        return _no_token(kafka, refusals[-1].removeprefix(_NO_TOKEN))
    if refusals:
        return AccessError(_refused(bootstrap_servers, kafka, refusals[-1]))
    for host, port in _addresses(bootstrap_servers):
        if reason := _why_not(host, port, kafka):
            return AccessError(f"Kafka at {host}:{port} cannot be used: {reason}")
    return ServiceUnavailableError(
        f"Kafka does not answer at {bootstrap_servers}: start it (`tapeline up` starts a "
        "local one) or set TAPELINE_KAFKA__BOOTSTRAP_SERVERS."
    )


def _refused(bootstrap_servers: str, kafka: KafkaSettings, text: str) -> str:
    if kafka.sasl_mechanism and "unsupported sasl mechanism" in text.lower():
        return (
            f"Kafka at {bootstrap_servers} does not take {kafka.sasl_mechanism.value}: set "
            f"TAPELINE_KAFKA__SASL_MECHANISM to one that it has ({text})."
        )
    if kafka.sasl_mechanism is SaslMechanism.OAUTHBEARER:
        return (
            f"Kafka at {bootstrap_servers} refuses the token of client {kafka.username}: it "
            "expects another issuer, audience or scope; check TAPELINE_KAFKA__TOKEN_URL, "
            "TAPELINE_KAFKA__TOKEN_SCOPE and what the identity provider puts into its tokens."
        )
    return (
        f"Kafka at {bootstrap_servers} refuses user {kafka.username}: the password is wrong or "
        "there is no such user; check TAPELINE_KAFKA__USERNAME, TAPELINE_KAFKA__PASSWORD and "
        "TAPELINE_KAFKA__SASL_MECHANISM."
    )


def _no_token(kafka: KafkaSettings, answer: str) -> ServiceUnavailableError:
    url = HttpUrl(str(kafka.token_url))
    host, port = str(url.host).strip("[]"), int(url.port or 0)
    if not answers(host, port):
        return ServiceUnavailableError(
            f"{url} does not answer, so there is no token for Kafka: check "
            "TAPELINE_KAFKA__TOKEN_URL, or wait until it does."
        )
    files = TlsFiles(kafka.token_ca_file)
    if url.scheme == "https" and (reason := why_no_tls(host, port, files)):
        return AccessError(
            f"{url} cannot be asked for a token: {reason}; check TAPELINE_KAFKA__TOKEN_URL and "
            "TAPELINE_KAFKA__TOKEN_CA_FILE."
        )
    return AccessError(
        f"{url} gives client {kafka.username} no token ({oauth_error(answer)}): check "
        "TAPELINE_KAFKA__USERNAME, TAPELINE_KAFKA__PASSWORD and TAPELINE_KAFKA__TOKEN_SCOPE."
    )


def oauth_error(answer: str) -> str:
    """Return the code of an error that an identity provider answers.

    Nothing else of the answer: it may repeat what was asked, and with it the client's secret.
    """
    known = (code for code in _OAUTH_ERRORS if code in answer)
    return next(known, "its answer has no error of OAuth 2.0")


def _why_not(host: str, port: int, kafka: KafkaSettings) -> str | None:
    protocol = kafka.security_protocol
    if not protocol.has_tls:
        wanted = "SASL_SSL" if protocol.has_sasl else "SSL or SASL_SSL"
        says = f"it speaks TLS; set TAPELINE_KAFKA__SECURITY_PROTOCOL to {wanted}."
        return says if speaks_tls(host, port) else None
    files = TlsFiles(kafka.ca_file, kafka.certificate_file, kafka.key_file)
    reason = why_no_tls(host, port, files)
    if reason is None:
        return None
    return f"{reason}; check TAPELINE_KAFKA__BOOTSTRAP_SERVERS, {_TO_CHECK}."


_TO_CHECK: Final = "TAPELINE_KAFKA__SECURITY_PROTOCOL and TAPELINE_KAFKA__CA_FILE"


def _addresses(bootstrap_servers: str) -> Iterator[tuple[str, int]]:
    for server in bootstrap_servers.split(","):
        host, _, port = server.rpartition("://")[2].rpartition(":")
        yield host.strip("[]"), int(port)
