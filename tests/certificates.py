"""Certificates made for a test, by the machine's openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

LOOPBACK_NAMES = "DNS:localhost,IP:127.0.0.1"
ELSEWHERE = "DNS:elsewhere.example,IP:192.0.2.1"
STORE_PASSWORD = "of-the-server"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(*arguments: object, text: bytes | None = None) -> bytes:
    """Run the machine's openssl on its standard input, and return its output."""
    program = shutil.which("openssl")
    assert program is not None, "install openssl"
    command = [program, *map(str, arguments)]
    return subprocess.run(command, input=text, check=True, capture_output=True).stdout


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: Path
    key: Path

    @property
    def together(self) -> Path:
        """Key and certificate in one file, as a broker wants them."""
        path = self.key.with_suffix(".both.pem")
        path.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())
        return path

    @property
    def store(self) -> Path:
        """Both as PKCS12, as Cassandra wants them."""
        path = self.key.with_suffix(".p12")
        files = ("-in", self.certificate, "-inkey", self.key, "-out", path)
        openssl("pkcs12", "-export", *files, "-passout", f"pass:{STORE_PASSWORD}")
        return path


def tls_context(issued: Issued) -> ssl.SSLContext:
    """Return what a server shows a certificate with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.certificate = folder / "authority.pem"
        self._key = folder / "authority.key"
        files = ("-keyout", self._key, "-out", self.certificate)
        openssl("req", "-x509", *_NEW_KEY, *files, "-days", 2, "-subj", f"/CN={folder.name}")

    @cached_property
    def ours(self) -> Issued:
        """Our own, for whoever asks a client for one."""
        return self.issue("ours")

    def issue(self, name: str, names: str = LOOPBACK_NAMES, days: int = 2) -> Issued:
        """Sign a certificate for some hosts; with 0 days it has expired at once."""
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n", encoding="ascii")
        openssl("req", *_NEW_KEY, "-keyout", issued.key, "-out", request, "-subj", f"/CN={name}")
        signer = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial")
        files = ("-in", request, "-out", issued.certificate, "-extfile", extensions)
        openssl("x509", "-req", *signer, *files, "-days", days)
        return issued
