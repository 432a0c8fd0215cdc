"""The bill of materials names everything that is installed or fetched, with its checksum."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
SCRIPT = "scripts/make_sbom.py"
RELEASE = ROOT / ".github" / "workflows" / "release.yml"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("sbom") / "tapeline.cdx.json"
    subprocess.run([sys.executable, ROOT / SCRIPT, file], check=True)
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def components(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [c for c in document["components"] if c["purl"].startswith(f"pkg:{kind}/")]


def test_it_is_of_our_version_and_gives_nothing_two_names(document):
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    ours = document["metadata"]["component"]
    assert (ours["name"], ours["version"]) == ("tapeline", version("tapeline"))
    refs = Counter(c["bom-ref"] for c in document["components"])
    assert [ref for ref, count in refs.items() if count > 1] == []


def test_it_names_every_locked_package_with_the_checksums_of_its_files(document):
    logical = (ROOT / "requirements.lock").read_text("utf-8").replace("\\\n", " ").splitlines()
    locked = {}
    for line in logical:
        requirement, *hashes = line.split("--hash=sha256:")
        wanted = Requirement(requirement.strip())
        locked[wanted.name, str(wanted.specifier)] = {digest.strip() for digest in hashes}

    found = {
        (c["name"], f"=={c['version']}"): {h["content"] for h in c["hashes"]}
        for c in components(document, "pypi")
    }
    assert found == locked
    assert len(found) > 30


def test_it_names_every_jar_with_its_checksum(document):
    lines = (ROOT / "src/tapeline/local/jars.sha256").read_text("utf-8").splitlines()
    found = {
        f"{c['group']}_{c['name']}-{c['version']}.jar {c['hashes'][0]['content']}"
        for c in components(document, "maven")
    }
    assert found == set(lines)
    assert len(found) > 100
    purls = {c["purl"] for c in document["components"]}
    # By the projects' own pages.
    assert {
        "pkg:maven/org.apache.kafka/kafka_2.13@4.4.0",
        "pkg:maven/org.apache.spark/spark-sql-kafka-0-10_2.12@3.5.7",
        "pkg:maven/org.bitbucket.b_c/jose4j@0.9.6",
        "pkg:maven/com.datastax.oss/java-driver-shaded-guava@25.1-jre-graal-sub-1",
    } <= purls


def test_a_release_has_it():
    steps = yaml.safe_load(RELEASE.read_text("utf-8"))["jobs"]["wheel"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert any(SCRIPT in command and '"dist/' in command for command in commands)
