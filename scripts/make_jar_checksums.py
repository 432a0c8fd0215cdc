"""Write the SHA-256 of every jar that is fetched: `python scripts/make_jar_checksums.py JARS`.

JARS is the folder `jars` of a home in which all sets were fetched by Ivy, which compares each with
the checksum that its repository publishes. Do this after a version has changed.
"""

import sys
from pathlib import Path

from tapeline.local.jar_checksums import CHECKSUM_FILE, sha256_of
from tapeline.local.jars import ALL_JARS, jar_folder

jars = [jar for s in ALL_JARS for jar in jar_folder(Path(sys.argv[1]), s).glob("*.jar")]
lines = sorted({f"{jar.name} {sha256_of(jar)}\n" for jar in jars})
CHECKSUM_FILE.write_text("".join(lines), encoding="utf-8")
print(f"{CHECKSUM_FILE}: {len(lines)} jars")
