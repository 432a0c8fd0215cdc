"""TLS as Python has it: files of certificates, and what is wrong where nobody gets through."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CERTIFICATE: Final = re.compile(
    "-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
)
_TIMEOUT_S: Final = 5.0
_EXPIRED: Final = 10
"""X509_V_ERR_CERT_HAS_EXPIRED."""
_NOT_YET: Final = 9
"""X509_V_ERR_CERT_NOT_YET_VALID."""
_OTHER_HOST: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Whom we trust and who we are; authorities are the machine's own when not set."""

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    verifies_host: bool = True

    def context(self) -> ssl.SSLContext:
        """Return what Python's clients connect with."""
        context = ssl.create_default_context(cafile=self.authorities)
        context.check_hostname = self.verifies_host
        # From 3.13 on Python refuses authorities that the clients in C and Java take, such as one
        # that does not say what its key is for. All of ours trust the same.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


def check_authorities(path: Path) -> None:
    """Make sure that a file holds certificates.

    Raises:
        ValueError: it does not.
    """
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        message = f"{str(path)!r} holds no certificates: name a PEM file of them."
        raise ValueError(message) from None


def authorities_in(path: Path | None) -> list[bytes]:
    """Return the certificates of a PEM file, or those that this machine trusts, each as DER."""
    if path is None:
        return ssl.create_default_context().get_ca_certs(binary_form=True)
    found = _CERTIFICATE.findall(path.read_text(encoding="utf-8", errors="replace"))
    return [ssl.PEM_cert_to_DER_cert(pem) for pem in found]


def check_own_certificate(certificate: Path, key: Path) -> None:
    """Make sure that a certificate goes with its key, which needs no passphrase.

    Raises:
        ValueError: it does not.
    """
    # Kafka's client in Java reads keys of no other form.
    if b"-----BEGIN PRIVATE KEY-----" not in key.read_bytes():
        message = (
            f"'{key}' is no key without a passphrase in PEM form: make one with "
            "`openssl pkcs8 -topk8 -nocrypt`."
        )
        raise ValueError(message)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        reason = "the key is of another one" if "MISMATCH" in str(error) else "it is none"
        message = f"'{certificate}' is not a valid certificate of '{key}': {reason}."
        raise ValueError(message) from None


def answers(host: str, port: int) -> bool:
    """Return whether anybody listens there."""
    try:
        socket.create_connection((host, port), _TIMEOUT_S).close()
    except OSError:
        return False
    return True


def why_no_tls(host: str, port: int, files: TlsFiles) -> str | None:
    """Return in a clause why a TLS connection fails; None where TLS is not what fails.

    Args:
        host: by which it was asked, which its certificate must name.
        port: of a server that may speak TLS.
        files: what the client goes by.
    """
    try:
        plain = socket.create_connection((host, port), _TIMEOUT_S)
    except OSError:
        return None
    try:
        with plain, files.context().wrap_socket(plain, server_hostname=host):
            return None
    except ssl.SSLCertVerificationError as error:
        return _distrust(error, host)
    except OSError:
        return None if speaks_tls(host, port) else "it does not speak TLS"


def speaks_tls(host: str, port: int) -> bool:
    """Return whether a server answers a TLS handshake, whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only to tell what it speaks; nothing is sent
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        # A server that wants a certificate of ours says so in TLS.
        return "alert" in str(error).lower()
    except OSError:
        return False


def _distrust(error: ssl.SSLCertVerificationError, host: str) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "its certificate has expired"
    if code == _NOT_YET:
        return "its certificate is not valid yet"
    if code in _OTHER_HOST:
        return f"its certificate is of another host than {host}"
    return f"its certificate is not signed by a trusted authority ({error.verify_message})"
