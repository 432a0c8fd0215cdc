"""Fetching jars, with a small program in place of Java and Ivy; nothing uses the network."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaitingError

import pytest
from rich.console import Console

from tapeline.local.jar_checksums import known_checksums
from tapeline.local.jars import (
    ALL_JARS,
    CASSANDRA_JARS,
    KAFKA_JARS,
    SPARK_JARS,
    JarSet,
    fetch_jars,
    jar_folder,
    missing_jars,
)
from tapeline.local.lock import held
from tapeline.model.errors import LocalStackError

ONE = JarSet("one-1.0", ("org.example:one:1.0", "org.example.deep:two_2.13:2.0"), 2, 1)
TWO = JarSet("two-2.0", ("org.example:two:2.0",), 1, 1)

# Arguments are those of Ivy: the descriptor is the fourth, the pattern to retrieve the last.
SUCCEED = """\
#!/bin/sh
cp "$4" "$(dirname "$4")/../descriptor-$(basename "$(dirname "$4")").xml"
for last; do :; done
lib=$(dirname "$last")
mkdir -p "$lib"
echo jar > "$lib/org.example_one-1.0.jar"
"""
SUCCEED_WITH_THREE = (
    SUCCEED
    + """\
cache="$(dirname "$4")/cache"
mkdir -p "$cache"
touch "$cache/1.jar" "$cache/2.jar" "$cache/3.jar"
"""
)
FAIL = """\
#!/bin/sh
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do echo "noise $i."; done
echo ":: UNRESOLVED DEPENDENCIES ::" >&2
exit 1
"""
FAIL_TWO = """\
#!/bin/sh
case "$4" in *two-2.0*) exit 1;; esac
for last; do :; done
mkdir -p "$(dirname "$last")"
"""


@pytest.fixture
def jars(tmp_path):
    return tmp_path / "home" / "jars"


@pytest.fixture
def java_home(tmp_path):
    """Make a Java home whose java is a shell script."""

    def make(script):
        java = tmp_path / "jdk" / "bin" / "java"
        java.parent.mkdir(parents=True, exist_ok=True)
        java.write_text(script)
        java.chmod(0o755)
        return tmp_path / "jdk"

    return make


# As `echo jar | sha256sum` says.
CHECKSUMS = {
    "org.example_one-1.0.jar": "fb8ce05502991565de98e3e21d9ab98151c1cd1715b14a3f7c349cba300cb2b9"
}


def console():
    return Console(file=io.StringIO())


def test_the_versions_are_those_that_work_together():
    assert KAFKA_JARS.coordinates[0] == "org.apache.kafka:kafka_2.13:4.4.0"
    assert CASSANDRA_JARS.coordinates == ("org.apache.cassandra:cassandra-all:5.0.9",)
    # Spark 3.5.7 of the wheel is built for Scala 2.12.
    assert all(c.split(":")[1].endswith("_2.12") for c in SPARK_JARS.coordinates)
    assert [c.split(":")[2] for c in SPARK_JARS.coordinates] == ["3.5.7", "3.5.7", "3.5.1"]


def test_every_set_has_a_folder_of_its_own(jars):
    assert len({jar_folder(jars, s) for s in ALL_JARS}) == len(ALL_JARS) == 3


def test_a_set_is_missing_until_its_folder_is_there(jars):
    assert missing_jars(jars, [ONE, TWO]) == [ONE, TWO]
    jar_folder(jars, ONE).mkdir(parents=True)
    assert missing_jars(jars, [ONE, TWO]) == [TWO]
    jar_folder(jars, TWO).mkdir()
    assert missing_jars(jars, [ONE, TWO]) == []


def test_a_fetched_set_appears_under_its_name_with_nothing_beside_it(jars, java_home):
    fetch_jars(jars, [ONE, TWO], java_home(SUCCEED), console(), checksums=CHECKSUMS)

    assert missing_jars(jars, [ONE, TWO]) == []
    assert [p.name for p in jar_folder(jars, ONE).iterdir()] == ["org.example_one-1.0.jar"]
    assert [p.name for p in jars.iterdir() if p.is_dir() and p.name.startswith(".")] == []


def test_the_jars_that_arrived_are_never_more_than_all_of_them(jars, java_home):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
    java = java_home(SUCCEED_WITH_THREE)
    fetch_jars(jars, [ONE], java, terminal, checksums=CHECKSUMS)

    shown = re.findall(r"(\d+)/(\d+) jars", terminal.file.getvalue())
    assert shown[-1] == ("3", "3")
    assert all(int(count) <= int(total) for count, total in shown)


def test_the_sets_say_as_many_jars_as_the_list_has():
    # Cassandra and Spark both need HdrHistogram, which the list has once.
    assert sum(s.about_jars for s in ALL_JARS) == len(known_checksums()) + 1


def test_the_descriptor_asks_ivy_for_each_coordinate(jars, java_home):
    fetch_jars(jars, [ONE], java_home(SUCCEED), console(), checksums=CHECKSUMS)

    module = ET.parse(jars / "descriptor-.one-1.0.part.xml").getroot()  # noqa: S314 - ours
    assert module.tag == "ivy-module"
    assert module.get("version") == "2.0"
    assert [c.get("name") for c in module.iter("conf")] == ["default"]
    assert [(d.get("org"), d.get("name"), d.get("rev")) for d in module.iter("dependency")] == [
        ("org.example", "one", "1.0"),
        ("org.example.deep", "two_2.13", "2.0"),
    ]
    assert {d.get("conf") for d in module.iter("dependency")} == {"*->default"}


def test_what_is_there_is_not_fetched_again(jars, java_home):
    jar_folder(jars, ONE).mkdir(parents=True)
    fetch_jars(jars, [ONE], java_home(FAIL), console(), checksums=CHECKSUMS)
    assert list(jar_folder(jars, ONE).iterdir()) == []


def test_another_command_that_fetches_is_waited_for(jars, java_home):
    failing = java_home(FAIL)
    with ThreadPoolExecutor() as pool:
        with held(jars / "fetching.lock", "cannot be"):
            waiting = pool.submit(fetch_jars, jars, [ONE], failing, console())
            with pytest.raises(StillWaitingError):
                waiting.result(timeout=0.5)
            jar_folder(jars, ONE).mkdir()
        waiting.result(timeout=30)  # it fetched nothing: that would have failed


def test_a_failed_fetch_is_told_with_the_end_of_ivys_log_and_is_not_used(jars, java_home):
    with pytest.raises(LocalStackError) as caught:
        fetch_jars(jars, [ONE], java_home(FAIL), console(), checksums=CHECKSUMS)

    message = str(caught.value)
    assert message.startswith("Fetching one-1.0 failed.")
    assert message.endswith(":: UNRESOLVED DEPENDENCIES ::")
    assert "noise 19." in message
    assert "noise 1." not in message
    assert missing_jars(jars, [ONE]) == [ONE]


def test_after_a_failure_the_fetch_is_simply_repeated(jars, java_home):
    with pytest.raises(LocalStackError):
        fetch_jars(jars, [ONE], java_home(FAIL), console(), checksums=CHECKSUMS)
    fetch_jars(jars, [ONE], java_home(SUCCEED), console(), checksums=CHECKSUMS)
    assert missing_jars(jars, [ONE]) == []


def test_one_failed_set_does_not_undo_the_other(jars, java_home):
    with pytest.raises(LocalStackError, match=r"Fetching two-2\.0 failed"):
        fetch_jars(jars, [ONE, TWO], java_home(FAIL_TWO), console(), checksums=CHECKSUMS)
    assert missing_jars(jars, [ONE, TWO]) == [TWO]


@pytest.mark.parametrize(
    ("checksums", "why"),
    [
        (
            {"org.example_one-1.0.jar": "0" * 64},
            f"has to be {'0' * 64} and is {CHECKSUMS['org.example_one-1.0.jar']}",
        ),
        ({}, "it is not in the list"),
    ],
)
def test_a_jar_that_is_another_one_is_not_kept(jars, java_home, checksums, why):
    with pytest.raises(LocalStackError) as caught:
        fetch_jars(jars, [ONE], java_home(SUCCEED), console(), checksums=checksums)

    assert str(caught.value).startswith("org.example_one-1.0.jar is not the jar")
    assert why in str(caught.value)
    assert missing_jars(jars, [ONE]) == [ONE]
    assert list(jars.rglob("*.jar")) == []
    fetch_jars(jars, [ONE], java_home(SUCCEED), console(), checksums=CHECKSUMS)
    assert missing_jars(jars, [ONE]) == []


def test_every_coordinate_has_a_checksum_and_the_list_holds_no_address():
    known = known_checksums()
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in known.values())
    for jar_set in ALL_JARS:
        for group, artifact, version in (c.split(":") for c in jar_set.coordinates):
            assert f"{group}_{artifact}-{version}.jar" in known
    assert len(known) > 150
    assert not any("/" in name for name in known)
