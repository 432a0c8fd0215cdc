"""What `tapeline doctor` says of a machine where nothing runs, and of what is wrong on it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from tapeline.cli.app import app
from tapeline.local import kafka
from tapeline.local.home import Home
from tapeline.local.jars import KAFKA_JARS, jar_folder
from tapeline.local.lock import held, is_held, only_one
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.producer.key_lock import one_connection
from tapeline.producer.spool import Spool
from tapeline.producer.spool_file import SpooledMessage
from tapeline.producer.spool_folder import opened_spools
from tapeline.program.settings import Settings, load_settings
from tapeline.status.doctor import machine
from tapeline.status.doctor.files import check_checkpoints, check_jars_there, check_spools
from tapeline.status.doctor.finding import Finding, Outcome
from tapeline.status.doctor.ports import check_ports
from tapeline.status.doctor.settings_check import check_key, check_settings

OK, WARN, FAIL, NOT_CHECKED = Outcome
TOKEN = "c9canary"


@pytest.fixture
def settings(tmp_path) -> Settings:
    """A home that is not there yet, and ports of this test alone."""
    loaded = load_settings()
    ports = {"producer_port": free_port(0), "stream_port": 0}
    metrics = loaded.metrics.model_copy(update=ports)
    return loaded.model_copy(update={"home": tmp_path / "home", "metrics": metrics})


def by_name(findings) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def everything_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_on_a_machine_where_nothing_runs_nothing_fails_and_nothing_is_made(tmp_path, monkeypatch):
    for name in os.environ:
        if name.startswith("TAPELINE_") or name == "FINNHUB_API_KEY":
            monkeypatch.delenv(name)
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TAPELINE_CASSANDRA__PORT", str(free_port(0)))

    result = CliRunner().invoke(app, ["doctor", "--format", "json"])
    report = json.loads(result.stdout)
    found = {f["check"]: f["outcome"] for f in report["findings"]}

    failed = [f for f in report["findings"] if f["outcome"] == "fail"]
    assert [f for f in failed if f["check"] != "port of the API"] == []
    assert found["Python"] == "ok"
    assert found["key of the feed"] == "warn"
    assert {found[f"jars of {KAFKA_JARS.name}"], found["Cassandra"], found["clock"]} == {
        "not checked"
    }
    assert everything_below(tmp_path) == []


def test_without_java_everything_else_is_still_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr("tapeline.local.java.bundled_java", lambda: None)
    monkeypatch.setenv("COLUMNS", "300")

    result = CliRunner().invoke(app, ["doctor"])

    assert result.exit_code == 1
    [java] = [line for line in result.stdout.splitlines() if " Java " in line]
    assert java.startswith("fail")
    assert "install one" in java
    assert " keyspace " in result.stdout


def test_a_wrong_setting_is_a_failure_with_its_sentence_and_a_wrong_option_is_refused(monkeypatch):
    monkeypatch.setenv("TAPELINE_KAFKA__PARTITIONS", "none")
    result = CliRunner().invoke(app, ["doctor", "--format", "json"])
    [failed] = [f for f in json.loads(result.stdout)["findings"] if f["outcome"] == "fail"]

    assert result.exit_code == 1
    assert failed["check"] == "settings"
    assert failed["sentence"].startswith("TAPELINE_KAFKA__PARTITIONS is 'none'")
    assert CliRunner().invoke(app, ["doctor", "--format", "xml"]).exit_code == 2
    wrong = CliRunner().invoke(app, ["doctor", "--keyspace", "no-name"])
    assert getattr(wrong.exception, "exit_code", None) == 2


def test_the_versions_of_python_are_those_of_the_package():
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (_, oldest), (_, newest) = machine.PYTHONS

    assert project["requires-python"] == f">=3.{oldest},<3.{newest + 1}"
    assert machine.check_python((3, oldest)).outcome is OK
    assert machine.check_python((3, newest)).outcome is OK
    assert machine.check_python((3, oldest - 1)).outcome is FAIL
    assert machine.check_python((3, newest + 1)).outcome is FAIL


def test_a_home_that_cannot_be_made_fails_and_is_not_made(settings, tmp_path):
    (tmp_path / "home").write_text("a file")
    found = machine.check_home(settings)
    assert found.outcome is FAIL
    assert "is no folder" in found.sentence
    assert "set TAPELINE_HOME" in found.sentence


def test_too_little_memory_and_disk_fail_unless_nothing_is_started_here(settings, monkeypatch):
    monkeypatch.setattr("tapeline.local.preflight._free_memory_mb", lambda: 100)
    monkeypatch.setattr("tapeline.local.preflight._free_disk_mb", lambda _home: 100)
    kafka_set = settings.kafka.model_copy(update={"bootstrap_servers": "k:9092"})
    cassandra_set = settings.cassandra.model_copy(update={"host": "c"})
    elsewhere = settings.model_copy(update={"kafka": kafka_set, "cassandra": cassandra_set})

    assert machine.check_memory(settings).outcome is FAIL
    assert machine.check_disk(settings).outcome is FAIL
    assert machine.check_memory(elsewhere).outcome is NOT_CHECKED
    assert machine.check_disk(elsewhere).outcome is WARN


def test_a_port_that_another_program_holds_is_named_with_it(settings):
    metrics = settings.metrics
    with socket.create_server((LOOPBACK, metrics.producer_port)):
        found = by_name(check_ports(settings))
    free = by_name(check_ports(settings))

    assert found["port of producer's metrics"].outcome is WARN
    assert f"(process {os.getpid()})" in found["port of producer's metrics"].sentence
    assert free["port of producer's metrics"].outcome is OK
    assert found["port of stream's metrics"].outcome is NOT_CHECKED


def test_the_port_of_the_api_has_to_be_free(settings, monkeypatch):
    with socket.create_server((LOOPBACK, 0)) as taken:
        monkeypatch.setattr("tapeline.status.doctor.ports.API_PORT", taken.getsockname()[1])
        found = by_name(check_ports(settings))["port of the API"]

    assert found.outcome is FAIL
    assert "--port" in found.sentence


def test_an_address_that_is_not_this_machines_fails(settings):
    metrics = settings.metrics.model_copy(update={"host": "192.0.2.1"})
    found = by_name(check_ports(settings.model_copy(update={"metrics": metrics})))
    assert found["port of producer's metrics"].outcome is FAIL


def test_a_command_of_ours_may_hold_its_port(settings, tmp_path):
    program = tmp_path / "tapeline"
    program.write_text(
        "import socket, sys\n"
        f"s = socket.create_server(('{LOOPBACK}', {settings.metrics.producer_port}))\n"
        "print(flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as ours:
        assert ours.stdout is not None
        ours.stdout.readline()
        found = by_name(check_ports(settings))["port of producer's metrics"]
        ours.kill()

    assert found.outcome is OK
    assert f"(process {ours.pid})" in found.sentence


def test_a_local_service_takes_another_port_when_its_own_is_held(settings, monkeypatch):
    with socket.create_server((LOOPBACK, 0)) as taken:
        monkeypatch.setattr(kafka, "PREFERRED_PORT", taken.getsockname()[1])
        found = by_name(check_ports(settings))["port of local Kafka"]
    assert found.outcome is WARN


def test_a_jar_with_another_checksum_is_named_and_stays(settings):
    folder = jar_folder(Home(settings.home).jars, KAFKA_JARS)
    folder.mkdir(parents=True)
    check = f"jars of {KAFKA_JARS.name}"
    empty = by_name(check_jars_there(settings))[check]
    jar = folder / "org.apache.kafka_kafka_2.13-4.4.0.jar"
    jar.write_bytes(b"not a jar")
    found = by_name(check_jars_there(settings))[check]

    assert (empty.outcome, found.outcome) == (FAIL, FAIL)
    assert found.sentence.startswith(jar.name)
    assert f"delete {folder}" in found.sentence
    assert jar.exists()


def test_a_checkpoint_folder_that_is_none_fails(settings):
    folder = Home(settings.home).checkpoints / settings.cassandra.keyspace
    assert check_checkpoints(settings).outcome is OK
    folder.parent.mkdir(parents=True)
    folder.write_text("")

    found = check_checkpoints(settings)
    assert found.outcome is FAIL
    assert "--checkpoint-dir" in found.sentence


def test_a_checkpoint_of_another_keyspace_fails(settings):
    folder = Home(settings.home).checkpoints / settings.cassandra.keyspace
    query = folder / "topic-id" / "cassandra" / "ingest"
    query.mkdir(parents=True)
    label = {"format": 1, "query": "ingest", "topic_id": "topic-id", "keyspace": "other"}
    (query / "tapeline.json").write_text(json.dumps(label))

    found = check_checkpoints(settings)
    assert found.outcome is FAIL
    assert "is of keyspace other" in found.sentence


def test_a_stream_at_work_is_seen_by_its_lock(settings):
    folder = Home(settings.home).checkpoints / settings.cassandra.keyspace / "id" / "cassandra"
    folder.mkdir(parents=True)
    (folder / "ingest.lock").write_text("")
    assert "no stream runs" in check_checkpoints(settings).sentence

    with held(folder / "ingest.lock", ""):
        assert "a stream works on ingest" in check_checkpoints(settings).sentence


def test_what_a_producer_has_left_is_counted_and_stays_as_it_is(settings):
    folder = Home(settings.home).spool / settings.kafka.topic / "host-1a2b3c4d"
    spool = Spool(folder, 2**20)
    for number in (1, 2):
        spool.append([SpooledMessage("trades", b"AAPL", b"x")] * number, 10**15, 10**15)
    spool.close()
    before = {path: path.read_bytes() for path in folder.iterdir()}

    found = check_spools(settings)

    assert found.outcome is WARN
    assert "host-1a2b3c4d 3:" in found.sentence
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_kafka_has_and_what_a_running_producer_holds_is_not_left(settings):
    with opened_spools(settings, "host-1a2b3c4d", is_tape=False) as spools:
        spools.own.append([SpooledMessage("trades", b"AAPL", b"x")], 10**15, 10**15)
        assert check_spools(settings).outcome is OK
        spools.own.acknowledged = 1
        spools.own.close()
    assert check_spools(settings).outcome is OK


def test_a_producer_with_the_same_key_is_seen_and_the_key_is_not_shown(settings):
    key = SecretStr(TOKEN)
    settings = settings.model_copy(update={"finnhub_api_key": key})
    before = by_name(check_key(settings))
    assert not settings.home.exists()
    with one_connection(settings.home, settings.finnhub.url, key):
        during = by_name(check_key(settings))
        other = settings.model_copy(update={"finnhub_api_key": SecretStr("another")})
        assert by_name(check_key(other))["other producer"].outcome is OK
    after = by_name(check_key(settings))

    assert [f["other producer"].outcome for f in (before, during, after)] == [OK, WARN, OK]
    assert TOKEN not in str((before, during, after))


def test_a_lock_is_seen_and_none_is_made(tmp_path):
    home = Home(tmp_path)
    assert not is_held(home.locks / "target")
    assert everything_below(tmp_path) == []
    with only_one(home, "target"):
        assert is_held(home.locks / "target")
    assert not is_held(home.locks / "target")


@pytest.mark.parametrize(("mode", "outcome"), [(0o600, OK), (0o640, WARN), (0o604, WARN)])
def test_a_file_with_the_key_that_others_may_read(tmp_path, monkeypatch, mode, outcome):
    file = tmp_path / "env"
    file.write_text(f"FINNHUB_API_KEY={TOKEN}\n")
    file.chmod(mode)
    monkeypatch.setenv("TAPELINE_ENV_FILE", str(file))
    found = by_name(check_settings())["env file"]
    assert found.outcome is outcome
    assert TOKEN not in found.sentence
