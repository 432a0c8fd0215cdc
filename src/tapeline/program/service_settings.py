"""The settings of Kafka and Cassandra: where they are, and how to get in."""

from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tapeline.program import setting_types as valid
from tapeline.program.setting_types import LAST_PORT, LONGEST_S
from tapeline.program.tls import check_own_certificate

FROZEN = ConfigDict(
    frozen=True,
    extra="forbid",
    use_attribute_docstrings=True,
    allow_inf_nan=False,
    str_strip_whitespace=True,
)


class SecurityProtocol(str, Enum):
    """How Kafka is spoken to, under Kafka's own names."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.value.endswith("SSL")

    @property
    def has_sasl(self) -> bool:
        """Whether we log in."""
        return self.value.startswith("SASL")


class SaslMechanism(str, Enum):
    """How Kafka checks who we are."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    OAUTHBEARER = "OAUTHBEARER"


class KafkaSettings(BaseModel):
    """Kafka's address and topics."""

    model_config = FROZEN

    bootstrap_servers: valid.Servers | None = None
    """host:port list; found by itself when not set (the local stack, then localhost:9092)."""
    security_protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    """How Kafka is spoken to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL (docs/security.md)."""
    ca_file: valid.Certificates | None = None
    """PEM file of the authorities that may sign Kafka's certificates; those that the machine, and
    Java in Spark, trust when not set."""
    certificate_file: valid.File | None = None
    """PEM file of our own certificate, where Kafka asks for one."""
    key_file: valid.File | None = None
    """PEM file of its key, without a passphrase."""
    sasl_mechanism: SaslMechanism | None = None
    """How Kafka checks who we are: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or OAUTHBEARER, by a token
    of an identity provider."""
    username: valid.Login | None = None
    """Our name at Kafka; with OAUTHBEARER our client id at the identity provider."""
    password: valid.Password | None = None
    """Our password at Kafka; with OAUTHBEARER our client secret. It is shown nowhere."""
    token_url: valid.TokenUrl | None = None
    """Token endpoint of the identity provider, with OAUTHBEARER."""
    token_scope: valid.Login | None = None
    """Scope of the tokens that we ask for; none when not set."""
    token_ca_file: valid.Certificates | None = None
    """PEM file of the authorities that may sign the identity provider's certificate; those that the
    machine, and Java in Spark, trust when not set."""
    topic: valid.Topic = "trades_raw"
    """Topic of the encoded trades."""
    dead_letter_topic: valid.Topic = "trades_dlq"
    """Topic of frames and trades that the producer cannot accept."""
    status_topic: valid.Topic = "feed_status"
    """Compacted topic in which producers report every second how far they are."""
    gaps_topic: valid.Topic = "feed_gaps"
    """Compacted topic in which producers report the times without a feed."""
    symbols_topic: valid.Topic = "feed_symbols"
    """Compacted topic in which users add and remove symbols of producers that run."""
    partitions: int = Field(default=4, ge=1, le=10_000)
    """Partitions of the trade topic when it is created."""
    replication_factor: int = Field(default=1, ge=1, le=100)
    """Copies of each partition when a topic is created."""
    retention_hours: int = Field(default=168, ge=1, le=LONGEST_S // 3600)
    """Hours for which trades stay in Kafka."""

    @model_validator(mode="after")
    def _agree(self) -> KafkaSettings:
        protocol = self.security_protocol
        login = {
            "SASL_MECHANISM": self.sasl_mechanism,
            "USERNAME": self.username,
            "PASSWORD": self.password,
        }
        if protocol is not SecurityProtocol.PLAINTEXT:
            address = "TAPELINE_KAFKA__BOOTSTRAP_SERVERS"
            _require(self.bootstrap_servers, f"TAPELINE_KAFKA__SECURITY_PROTOCOL needs {address}")
        for name, value in login.items():
            if protocol.has_sasl:
                _require(value, f"{protocol.value} needs TAPELINE_KAFKA__{name}")
            elif value is not None:
                message = (
                    f"TAPELINE_KAFKA__{name} is used with SASL alone: set "
                    "TAPELINE_KAFKA__SECURITY_PROTOCOL to SASL_SSL, or leave it out."
                )
                raise ValueError(message)
        self._check_tokens()
        tls = "TAPELINE_KAFKA__SECURITY_PROTOCOL to SSL or SASL_SSL"
        _check_files("KAFKA", self, tls if not protocol.has_tls else None)
        return self

    def _check_tokens(self) -> None:
        if self.sasl_mechanism is SaslMechanism.OAUTHBEARER:
            _require(self.token_url, "OAUTHBEARER needs TAPELINE_KAFKA__TOKEN_URL")
            return
        for name in ("token_url", "token_scope", "token_ca_file"):
            if getattr(self, name) is not None:
                message = (
                    f"TAPELINE_KAFKA__{name.upper()} is used with tokens alone: set "
                    "TAPELINE_KAFKA__SASL_MECHANISM to OAUTHBEARER, or leave it out."
                )
                raise ValueError(message)


class CassandraSettings(BaseModel):
    """Cassandra's address, keyspace and lifetimes."""

    model_config = FROZEN

    host: valid.ContactPoints | None = None
    """One node or several, with commas between them, of which one must answer at a start; found by
    itself when not set (the local stack, then localhost)."""
    port: int = Field(default=9042, ge=1, le=LAST_PORT)
    """The native protocol port, used with `host`."""
    tls: bool = False
    """Whether Cassandra is spoken to by TLS (docs/security.md)."""
    ca_file: valid.Certificates | None = None
    """PEM file of the authorities that may sign the nodes' certificates; those that the machine,
    and Java in Spark, trust when not set."""
    certificate_file: valid.File | None = None
    """PEM file of our own certificate, where Cassandra asks for one."""
    key_file: valid.File | None = None
    """PEM file of its key, without a passphrase."""
    verify_host_name: bool = True
    """Whether a node's certificate must name the address at which the node is reached."""
    username: valid.Login | None = None
    """Our name at Cassandra."""
    password: valid.Password | None = None
    """Our password at Cassandra. It is shown nowhere."""
    local_datacenter: str = Field(default="datacenter1", min_length=1)
    """Name of the data centre that requests go to."""
    keyspace: valid.Keyspace = "market_data"
    """Keyspace of the tables."""
    replication_factor: int = Field(default=1, ge=1, le=100)
    """Copies of each row in each data centre."""
    bronze_ttl_s: valid.Lifetime = 7 * 86_400
    """Seconds for which bronze rows live; 0 keeps them."""
    silver_ttl_s: valid.Lifetime = 30 * 86_400
    """Seconds for which silver rows live; 0 keeps them."""
    gold_ttl_s: valid.Lifetime = 0
    """Seconds for which bars live; 0 keeps them."""
    quarantine_ttl_s: valid.Lifetime = 30 * 86_400
    """Seconds for which quarantined messages live; 0 keeps them."""
    request_timeout_s: valid.Seconds = 20.0
    """Seconds that one request may take."""

    @model_validator(mode="after")
    def _agree(self) -> CassandraSettings:
        address, user, password = (
            f"TAPELINE_CASSANDRA__{name}" for name in ("HOST", "USERNAME", "PASSWORD")
        )
        if self.tls:
            _require(self.host, f"TAPELINE_CASSANDRA__TLS needs {address}")
        if self.password is not None:
            _require(self.username, f"{password} needs {user}")
        if self.username is not None:
            _require(self.password, f"{user} needs {password}")
            _require(self.host, f"{user} needs {address}")
        _check_files("CASSANDRA", self, None if self.tls else "TAPELINE_CASSANDRA__TLS to true")
        return self


def _require(value: object, text: str) -> None:
    if value is None:
        message = f"{text}: set both."
        raise ValueError(message)


def _check_files(
    section: str, settings: KafkaSettings | CassandraSettings, to_have_tls: str | None
) -> None:
    """Refuse files without TLS, and a certificate that does not go with its key.

    Args:
        section: of the variables' names.
        settings: which files there are.
        to_have_tls: what to set for TLS; None where it is set.
    """
    names = ("ca_file", "certificate_file", "key_file")
    given = [name for name in names if getattr(settings, name) is not None]
    prefix = f"TAPELINE_{section}__"
    if given and to_have_tls:
        message = f"{prefix}{given[0].upper()} is used with TLS alone: set {to_have_tls}."
        raise ValueError(message)
    certificate, key = settings.certificate_file, settings.key_file
    if certificate is not None:
        _require(key, f"{prefix}CERTIFICATE_FILE needs {prefix}KEY_FILE")
    if key is not None:
        _require(certificate, f"{prefix}KEY_FILE needs {prefix}CERTIFICATE_FILE")
    if certificate is not None and key is not None:
        check_own_certificate(certificate, key)
