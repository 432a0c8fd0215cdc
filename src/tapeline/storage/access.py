"""How the driver gets into Cassandra: its options, and what to say where it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from cassandra import Unauthorized
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import NoHostAvailable

from tapeline.model.errors import AccessError, ServiceUnavailableError
from tapeline.program.service_settings import CassandraSettings
from tapeline.program.tls import TlsFiles, speaks_tls, why_no_tls

_WRONG: Final = ("incorrect", "Bad credentials")
_MISSING: Final = ("requires authentication", "authentication required")
_LACKING: Final = re.compile(r"User (\S+) has no (\w+) permission on <([^>]+)>")


def access_options(settings: CassandraSettings) -> dict[str, Any]:
    """Return what the driver's cluster needs to get in: a log-in, TLS, both or neither."""
    options: dict[str, Any] = {}
    if settings.username is not None and settings.password is not None:
        password = settings.password.get_secret_value()
        options["auth_provider"] = PlainTextAuthProvider(settings.username, password)
    if settings.tls:
        options["ssl_context"] = _files(settings).context()
    return options


def no_access(
    settings: CassandraSettings, host: str, port: int, error: NoHostAvailable
) -> ServiceUnavailableError:
    """Return what to say of a Cassandra that cannot be asked."""
    texts = " ".join(str(e) for e in dict(error.errors).values())
    where = f"Cassandra at {host}:{port}"
    if settings.username is None and any(text in texts for text in _MISSING):
        return AccessError(
            f"{where} wants a user and a password: set TAPELINE_CASSANDRA__USERNAME and "
            "TAPELINE_CASSANDRA__PASSWORD."
        )
    if settings.username is not None and any(text in texts for text in _WRONG):
        return AccessError(
            f"{where} refuses user {settings.username}: the password is wrong or there is no such "
            "user; check TAPELINE_CASSANDRA__USERNAME and TAPELINE_CASSANDRA__PASSWORD."
        )
    if reason := _why_not(settings, host, port):
        return AccessError(f"{where} cannot be used: {reason}.")
    return no_answer(host, port)


def no_answer(host: str, port: int) -> ServiceUnavailableError:
    """Return what to say where nothing answers."""
    return ServiceUnavailableError(
        f"Cassandra does not answer at {host}:{port}: start it (`tapeline up` starts a local one) "
        "or set TAPELINE_CASSANDRA__HOST and TAPELINE_CASSANDRA__PORT."
    )


@contextmanager
def rights_explained() -> Iterator[None]:
    """Raise what Cassandra does not allow our user as an AccessError, which names the right."""
    try:
        yield
    except Unauthorized as error:
        found = _LACKING.search(str(error))
        lacking = f"the right {found[2]} on {found[3]}" if found else f"a right: {error}"
        user = found[1] if found else "our user"
        message = (
            f"Cassandra refuses this to user {user}, who lacks {lacking}. Grant it, or set another "
            "user in TAPELINE_CASSANDRA__USERNAME (docs/security.md)."
        )
        raise AccessError(message) from error


def _why_not(settings: CassandraSettings, host: str, port: int) -> str | None:
    hosts = host.split(",")
    if not settings.tls:
        has_tls = any(speaks_tls(one, port) for one in hosts)
        return "it speaks TLS; set TAPELINE_CASSANDRA__TLS=true" if has_tls else None
    reason = next(filter(None, (why_no_tls(one, port, _files(settings)) for one in hosts)), None)
    if reason is None:
        return None
    return (
        f"{reason}; check TAPELINE_CASSANDRA__HOST, TAPELINE_CASSANDRA__TLS and "
        "TAPELINE_CASSANDRA__CA_FILE"
    )


def _files(settings: CassandraSettings) -> TlsFiles:
    return TlsFiles(
        settings.ca_file,
        settings.certificate_file,
        settings.key_file,
        verifies_host=settings.verify_host_name,
    )
