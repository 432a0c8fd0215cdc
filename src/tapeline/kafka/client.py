"""How every client gets into Kafka: its options, and what to say where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import KafkaError

from tapeline.model.errors import AccessError, ServiceUnavailableError
from tapeline.program.service_settings import KafkaSettings
from tapeline.program.tls import TlsFiles, speaks_tls, why_no_tls

IN_THE_CLEAR: Final = KafkaSettings()
"""A Kafka that asks nobody who they are, as the local one."""


def client_options(bootstrap_servers: str, kafka: KafkaSettings) -> dict[str, Any]:
    """Return what a client of librdkafka needs to get in.

    Certificates and host names are always verified.
    """
    options: dict[str, Any] = {"bootstrap.servers": bootstrap_servers}
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
    if protocol.has_sasl and kafka.sasl_mechanism and kafka.password:
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
        mechanism = kafka.sasl_mechanism.value
        options["sasl.mechanism"] = mechanism
        kind = "plain.Plain" if mechanism == "PLAIN" else "scram.Scram"
        options["sasl.jaas.config"] = (
            f"org.apache.kafka.common.security.{kind}LoginModule required "
            f"username={_quoted(kafka.username)} "
            f"password={_quoted(kafka.password.get_secret_value())};"
        )
    return options


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
    if "mechanism" in text.lower() and "unsupported" in text.lower():
        return (
            f"Kafka at {bootstrap_servers} does not take {kafka.sasl_mechanism}: set "
            f"TAPELINE_KAFKA__SASL_MECHANISM to one that it has ({text})."
        )
    return (
        f"Kafka at {bootstrap_servers} refuses user {kafka.username}: the password is wrong or "
        "there is no such user; check TAPELINE_KAFKA__USERNAME, TAPELINE_KAFKA__PASSWORD and "
        "TAPELINE_KAFKA__SASL_MECHANISM."
    )


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


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
