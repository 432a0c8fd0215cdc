"""How Spark's connector gets into Cassandra, without a secret on a command line.

What the session is built with goes through the command line of Spark's JVM. So names, passwords
and stores are set once the session is there, and `spark.redaction.regex` hides them in plans and
events.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from tapeline.local.truststore import TRUST_PASSWORD, encode_trust_store
from tapeline.model.errors import UsageError
from tapeline.program.service_settings import CassandraSettings
from tapeline.program.tls import authorities_in

_DRIVER: Final = "datastax-java-driver.advanced.ssl-engine-factory."
"""Where the connector's driver of Cassandra looks first: among the JVM's system properties."""
_CONNECTOR: Final = "spark.cassandra.connection.ssl."
_PASSWORD: Final = "spark.cassandra.auth.password"  # noqa: S105 - the name of an option
_LATER: Final = "set later"
_TRUST_STORE: Final = "tapeline-cassandra-trust.jks"
_KEY_STORE: Final = "tapeline-cassandra-key.p12"
_KEY_KINDS: Final = ("EC", "RSA", "Ed25519")
_CIPHERS: Final = (
    "TLS_AES_256_GCM_SHA384,TLS_AES_128_GCM_SHA256,"
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,"
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
)
"""The connector's own list is of suites that no longer count as safe."""
_REDACTED: Final = "(?i)secret|password|token|access[.]?key|jaas|keystore"
"""Options whose values Spark shows nowhere: its own list, and those of Kafka's source."""


def first_options(cassandra: CassandraSettings) -> dict[str, str]:
    """Return what the session is built with, so that Spark shows no secret that is set later.

    Of what its event log holds of a job, it redacts the options alone that it was started with.
    """
    options = {"spark.redaction.regex": _REDACTED}
    if cassandra.password is not None:
        options[_PASSWORD] = _LATER
    if cassandra.certificate_file is not None:
        options[f"{_CONNECTOR}keyStore.password"] = _LATER
    return options


def tls_properties(cassandra: CassandraSettings) -> dict[str, str]:
    """Return the system properties of every JVM that speaks to Cassandra; none is a secret.

    The connector verifies no host names by itself. Java would also ask the DNS for a name of an
    address, which whoever redirects us may answer.
    """
    if not cassandra.tls:
        return {}
    return {
        f"{_DRIVER}hostname-validation": str(cassandra.verify_host_name).lower(),
        f"{_DRIVER}allow-dns-reverse-lookup-san": "false",
    }


def executor_properties(cassandra: CassandraSettings) -> dict[str, str]:
    """Return the system properties of executors: the stores come to the folder where they run."""
    properties = tls_properties(cassandra)
    if properties:
        properties[f"{_DRIVER}truststore-path"] = _TRUST_STORE
    if properties and cassandra.certificate_file is not None:
        properties[f"{_DRIVER}keystore-path"] = _KEY_STORE
    return properties


def let_into_cassandra(session: SparkSession, cassandra: CassandraSettings) -> None:
    """Give the connector the log-in and the stores, and this JVM its properties."""
    if cassandra.username is not None and cassandra.password is not None:
        session.conf.set("spark.cassandra.auth.username", cassandra.username)
        session.conf.set(_PASSWORD, cassandra.password.get_secret_value())
    if not cassandra.tls:
        return
    jvm: Any = session.sparkContext._jvm  # noqa: SLF001 - the only way to the JVM
    for name, value in tls_properties(cassandra).items():
        jvm.java.lang.System.setProperty(name, value)
    session.conf.set(f"{_CONNECTOR}enabled", "true")
    session.conf.set(f"{_CONNECTOR}enabledAlgorithms", _CIPHERS)
    folder = tempfile.TemporaryDirectory(prefix="tapeline-stores-")
    _folders.append(folder)
    trust = Path(folder.name) / _TRUST_STORE
    trust.write_bytes(encode_trust_store(authorities_in(cassandra.ca_file)))
    _use_store(session, "trustStore", trust, TRUST_PASSWORD)
    if cassandra.certificate_file is not None and cassandra.key_file is not None:
        key, password = Path(folder.name) / _KEY_STORE, secrets.token_hex(16)
        maker = _KeyStoreMaker(session, password)
        maker.write(cassandra.certificate_file, cassandra.key_file, key)
        session.conf.set(f"{_CONNECTOR}clientAuth.enabled", "true")
        _use_store(session, "keyStore", key, password)


_folders: list[tempfile.TemporaryDirectory[str]] = []
"""Folders that only their owner may open; they go when this process ends."""


def _use_store(session: SparkSession, option: str, path: Path, password: str) -> None:
    session.conf.set(f"{_CONNECTOR}{option}.path", str(path))
    session.conf.set(f"{_CONNECTOR}{option}.password", password)
    if not str(session.sparkContext.master).startswith("local["):
        session.sparkContext.addFile(str(path))  # executors on other machines get it too


class _KeyStoreMaker:
    """Has the JVM put our certificate and its key into a store: the connector reads no PEM."""

    def __init__(self, session: SparkSession, password: str) -> None:
        self._gateway = cast("Any", session.sparkContext._gateway)  # noqa: SLF001 - the only way to the JVM
        self._java: Any = self._gateway.jvm.java
        self._password = self._array(self._gateway.jvm.char, password)

    def write(self, certificate: Path, key: Path, path: Path) -> None:
        """Write the store, readable by its owner only."""
        stream = self._java.io.ByteArrayInputStream(certificate.read_bytes())
        factory = self._java.security.cert.CertificateFactory.getInstance("X.509")
        found = list(factory.generateCertificates(stream).toArray())
        chain = self._array(self._java.security.cert.Certificate, found)
        private = self._private_key(key)
        store = self._java.security.KeyStore.getInstance("PKCS12")
        store.load(None, None)
        store.setKeyEntry("tapeline", private, self._password, chain)
        path.touch(mode=0o600)
        file = self._java.io.FileOutputStream(str(path))
        store.store(file, self._password)
        file.close()

    def _private_key(self, key: Path) -> Any:
        pem = key.read_text(encoding="ascii")
        body = pem.partition("-----BEGIN PRIVATE KEY-----")[2].partition("-----END")[0]
        der = self._java.util.Base64.getMimeDecoder().decode(body)
        spec = self._java.security.spec.PKCS8EncodedKeySpec(der)
        for kind in _KEY_KINDS:
            try:
                return self._java.security.KeyFactory.getInstance(kind).generatePrivate(spec)
            except Py4JJavaError:
                continue  # a key of another kind
        message = f"Spark cannot use the key in {key}: take one of {', '.join(_KEY_KINDS)}."
        raise UsageError(message)

    def _array(self, kind: Any, values: Sequence[Any]) -> Any:
        array = self._gateway.new_array(kind, len(values))
        for number, value in enumerate(values):
            array[number] = value
        return array
