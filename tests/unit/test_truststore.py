from __future__ import annotations

import ssl
import subprocess

from tapeline.local.java import find_java
from tapeline.local.truststore import encode_trust_store, write_trust_store


def test_java_reads_the_systems_authorities(tmp_path):
    store = tmp_path / "authorities.jks"
    authorities = ssl.create_default_context().get_ca_certs(binary_form=True)

    assert write_trust_store(store)

    # Given the password, keytool checks the integrity of the file as well.
    listed = subprocess.run(
        [
            str(find_java() / "bin" / "keytool"),
            *("-J-Duser.language=en", "-list", "-keystore", str(store), "-storepass", "changeit"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert f"Your keystore contains {len(authorities)} entries" in listed.stdout, listed.stderr


def test_an_empty_list_is_a_store_of_none():
    assert encode_trust_store([])[:12] == bytes.fromhex("feedfeed 00000002 00000000")
