"""A Kafka and a Cassandra that ask who comes and show certificates, on loopback."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, NoHostAvailable, Session
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tapeline.local import cassandra, kafka
from tapeline.local.home import Home
from tapeline.local.jars import CASSANDRA_JARS, KAFKA_JARS, JarSet, jar_folder
from tapeline.local.java import find_java, java_environment
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK, RunningService, ServicePlace
from tapeline.local.truststore import TRUST_PASSWORD, encode_trust_store
from tapeline.program.profile import Profile
from tests.certificates import ELSEWHERE, STORE_PASSWORD, Authority, Issued
from tests.token_server import TokenServer, allowed_urls, broker_properties, token_server

USER, PASSWORD = "anna", 'not-for-others"; \\x'
CQL_USER, CQL_PASSWORD = "berta", "cassandra-pa$$'word"
_PATIENCE_S = 300.0
_SIZES = Profile.SMALL.sizes
_SECURITY = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class SecuredKafka:
    """The ports of its listeners, by their names."""

    ports: Mapping[str, int]
    tokens: TokenServer
    """Whose tokens its listener "token" takes."""

    def servers(self, listener: str) -> str:
        return f"{LOOPBACK}:{self.ports[listener]}"


@contextmanager
def secured_kafka(home: Home, folder: Path, authority: Authority) -> Iterator[SecuredKafka]:
    """Run a broker with a listener for each way in.

    Open, TLS, TLS that wants a certificate, a log-in, a token, two wrong certificates.
    """
    names = ("open", "tls", "mutual", "login", "token", "expired", "elsewhere", "controller")
    ports = {name: free_port(0) for name in names}
    good = authority.issue("kafka")
    certificates = {
        "tls": good,
        "mutual": good,
        "login": good,
        "token": good,
        "expired": authority.issue("expired", days=0),
        "elsewhere": authority.issue("elsewhere", ELSEWHERE),
    }
    keys = folder.with_name("tokens")
    with token_server(keys, authority.issue("tokens"), {USER: PASSWORD}) as tokens:
        sizes = replace(
            _SIZES,
            kafka=replace(_SIZES.kafka, options=(*_SIZES.kafka.options, allowed_urls(tokens))),
            kafka_properties={
                **_SIZES.kafka_properties,
                **_listeners(ports),
                **_certificates(certificates, authority),
                **_logins(),
                **broker_properties(tokens, "token"),
            },
        )
        place = _place(home, folder, KAFKA_JARS)
        service = kafka.start_kafka(place, sizes, ports["open"])
        try:
            _await(partial(kafka.kafka_answers, ports["open"]), service, place.log)
            _let_in(f"{LOOPBACK}:{ports['open']}")
            yield SecuredKafka(ports, tokens)
        finally:
            service.stop()


def _listeners(ports: Mapping[str, int]) -> dict[str, str]:
    protocols = dict.fromkeys(ports, "SSL") | {
        "open": "PLAINTEXT",
        "controller": "PLAINTEXT",
        "login": "SASL_SSL",
        "token": "SASL_SSL",
    }
    addresses = {name: f"{name.upper()}://{LOOPBACK}:{port}" for name, port in ports.items()}
    return {
        "listeners": ",".join(addresses.values()),
        "advertised.listeners": ",".join(
            address for name, address in addresses.items() if name != "controller"
        ),
        "listener.security.protocol.map": ",".join(
            f"{name.upper()}:{protocol}" for name, protocol in protocols.items()
        ),
        "inter.broker.listener.name": "OPEN",
        "controller.quorum.voters": f"1@{LOOPBACK}:{ports['controller']}",
    }


def _certificates(issued: Mapping[str, Issued], authority: Authority) -> dict[str, str]:
    properties = {}
    for name, certificate in issued.items():
        prefix = f"listener.name.{name}.ssl."
        properties[f"{prefix}keystore.type"] = "PEM"
        properties[f"{prefix}keystore.location"] = str(certificate.together)
    properties["listener.name.mutual.ssl.client.auth"] = "required"
    properties["listener.name.mutual.ssl.truststore.type"] = "PEM"
    properties["listener.name.mutual.ssl.truststore.location"] = str(authority.certificate)
    return properties


def _logins() -> dict[str, str]:
    escaped = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    plain = f'{_SECURITY}.plain.PlainLoginModule required user_{USER}="{escaped}";'
    properties = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        # A properties file takes a backslash away.
        "listener.name.login.plain.sasl.jaas.config": plain.replace("\\", "\\\\"),
    }
    for kind in ("scram-sha-256", "scram-sha-512"):
        module = f"{_SECURITY}.scram.ScramLoginModule required;"
        properties[f"listener.name.login.{kind}.sasl.jaas.config"] = module
    return properties


def _let_in(servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    wanted = [
        UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
    ]
    for one in wanted:
        for future in admin.alter_user_scram_credentials([one]).values():
            future.result()


@dataclass(frozen=True)
class SecuredCassandra:
    """Its ports: one that speaks TLS, one that does not; both want a password."""

    tls: int
    open: int


@contextmanager
def secured_cassandra(home: Home, folder: Path, authority: Authority) -> Iterator[SecuredCassandra]:
    """Run a node that wants a password and, by TLS, a certificate of ours, and asks for rights.

    Our user may create and drop keyspaces, and do what it likes with those of its own.
    """
    issued = authority.issue("cassandra")
    trusted = authority.certificate.with_suffix(".jks")
    der = ssl.PEM_cert_to_DER_cert(authority.certificate.read_text(encoding="ascii"))
    trusted.write_bytes(encode_trust_store([der]))
    port, tls, storage = free_port(0), free_port(0), free_port(0)
    sizes = replace(
        _SIZES,
        cassandra=replace(
            _SIZES.cassandra,
            options=(*_SIZES.cassandra.options, "-Dcassandra.superuser_setup_delay_ms=0"),
        ),
        cassandra_yaml={
            **_SIZES.cassandra_yaml,
            "authenticator": {"class_name": "PasswordAuthenticator"},
            "authorizer": {"class_name": "CassandraAuthorizer"},
            "role_manager": {"class_name": "CassandraRoleManager"},
            "native_transport_port": port,
            # Others may be starting a node at this moment too.
            "storage_port": storage,
            "seed_provider": [
                {
                    "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                    "parameters": [{"seeds": f"{LOOPBACK}:{storage}"}],
                }
            ],
            "native_transport_port_ssl": tls,
            "client_encryption_options": {
                "enabled": True,
                "optional": False,
                "keystore": str(issued.store),
                "keystore_password": STORE_PASSWORD,
                "truststore": str(trusted),
                "truststore_password": TRUST_PASSWORD,
                "store_type": "JKS",  # Java reads both forms under this name
                "require_client_auth": True,
            },
        },
    )
    place = _place(home, folder, CASSANDRA_JARS)
    service = cassandra.start_cassandra(place, sizes, port)
    try:
        _await(partial(_has_our_role, port), service, place.log)
        yield SecuredCassandra(tls, port)
    finally:
        service.stop()


@contextmanager
def superuser(port: int) -> Iterator[Session]:
    """Yield a session that may do everything."""
    usual = PlainTextAuthProvider("cassandra", "cassandra")
    cluster = Cluster([LOOPBACK], port=port, auth_provider=usual, protocol_version=5)
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()


def _has_our_role(port: int) -> bool:
    try:
        with superuser(port) as session:
            session.execute(
                f"CREATE ROLE IF NOT EXISTS {CQL_USER} WITH PASSWORD = %s AND LOGIN = true",
                (CQL_PASSWORD,),
            )
            for right in ("CREATE", "DROP"):  # as `tapeline replay` needs them
                session.execute(f"GRANT {right} ON ALL KEYSPACES TO {CQL_USER}")
    except NoHostAvailable:
        return False
    return True


def _place(home: Home, folder: Path, jars: JarSet) -> ServicePlace:
    java_home = find_java()
    return ServicePlace(
        java_home=java_home,
        jars=jar_folder(home.jars, jars),
        class_archives=home.class_archives,
        data=folder,
        log=folder.with_suffix(".log"),
        environment=java_environment(java_home),
    )


def _await(is_ready: Any, service: RunningService, log: Path) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not is_ready():
        text = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        assert service.process() is not None, text
        assert time.monotonic() < deadline_s, text
        time.sleep(0.2)


def environment_of(**values: object) -> dict[str, str]:
    """Return an environment in which nothing else of ours is set."""
    own = {name: "" for name in os.environ if name.startswith(("TAPELINE_KAFKA", "TAPELINE_CASS"))}
    return own | {name: str(value) for name, value in values.items()}
