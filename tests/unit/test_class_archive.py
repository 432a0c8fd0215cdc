"""Archives of classes, recorded and used by a real JVM: Kafka's storage tool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tapeline.local import class_archive
from tapeline.local.class_archive import make_archives, make_archives_later, use_archive
from tapeline.local.jars import KAFKA_JARS, jar_folder
from tapeline.local.java import find_java
from tests.commands import wait_for

pytestmark = pytest.mark.jvm
JAVA_HOME = find_java()


@pytest.fixture(scope="session")
def class_path(home):
    return str(jar_folder(home.jars, KAFKA_JARS) / "*")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(class_archive, "_WORTHWHILE_S", -1.0)
    return tmp_path / "archives"


def run_tool(use, class_path, *options):
    """Print a random id; return what was written to standard output and error."""
    command = [JAVA_HOME / "bin" / "java", *use.options, *options, "-cp", class_path]
    process = subprocess.Popen(
        [*command, "kafka.tools.StorageTool", "random-uuid"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "JDK_JAVA_OPTIONS"},  # it is announced
    )
    use.started(process.pid)
    output = process.communicate(timeout=120)
    assert process.returncode == 0
    return output


def classes_from_archive(use, class_path, log):
    run_tool(use, class_path, f"-Xlog:class+load:file={log}")
    lines = log.read_text().splitlines()
    return {line.split()[1] for line in lines if "shared objects file" in line}


@pytest.fixture
def recorded(folder, class_path):
    use = use_archive(folder, "tool", JAVA_HOME, class_path)
    run_tool(use, class_path)
    return use


def test_the_next_jvm_takes_its_classes_from_the_archive(folder, class_path, recorded, tmp_path):
    make_archives(folder)

    again = use_archive(folder, "tool", JAVA_HOME, class_path)
    assert "kafka.tools.StorageTool" in classes_from_archive(again, class_path, tmp_path / "log")
    assert again.recording is None
    assert not recorded.recording.exists()
    assert [f.suffix for f in folder.iterdir() if f.name != "making.lock"] == [".jsa"]


@pytest.mark.usefixtures("recorded")
def test_an_archive_that_is_damaged_is_not_used_and_nothing_is_said(folder, class_path, tmp_path):
    make_archives(folder)
    (archive,) = folder.glob("*.jsa")
    archive.chmod(0o600)
    archive.write_bytes(b"no archive")

    again = use_archive(folder, "tool", JAVA_HOME, class_path)
    printed, complaints = run_tool(again, class_path)
    assert len(printed.split()) == 1
    assert complaints == ""
    assert "kafka.tools.StorageTool" not in classes_from_archive(
        again, class_path, tmp_path / "log"
    )


def test_half_a_line_of_a_killed_jvm_does_no_harm(folder, recorded):
    classes = recorded.recording / "classes"
    names = classes.read_bytes()
    classes.write_bytes(names[: names.rindex(b"kafka/tools/StorageTool") + 9])

    make_archives(folder)

    assert len(list(folder.glob("*.jsa"))) == 1


def test_what_a_short_life_recorded_is_thrown_away(folder, recorded, monkeypatch):
    monkeypatch.setattr(class_archive, "_WORTHWHILE_S", 60.0)
    make_archives(folder)
    assert list(folder.glob("*.jsa")) == []
    assert not recorded.recording.exists()


def test_what_a_living_jvm_records_is_left_alone(folder, class_path):
    use = use_archive(folder, "tool", JAVA_HOME, class_path)
    (use.recording / "classes").write_text("java/lang/Object id: 0\n")
    make_archives(folder)  # nobody has said yet which process it is
    assert use.recording.exists()
    use.started(os.getpid())
    make_archives(folder)
    assert use.recording.exists()


def test_a_recording_that_nobody_finished_is_swept_away(folder, class_path):
    use = use_archive(folder, "tool", JAVA_HOME, class_path)
    (use.recording / "recipe.json").write_text("{")
    make_archives(folder)
    assert not use.recording.exists()


def test_two_processes_at_once_make_one_archive(folder, recorded):
    recipe = recorded.recording / "recipe.json"
    fields = json.loads(recipe.read_text())
    code = (
        "import sys; from pathlib import Path; from tapeline.local import class_archive as c; "
        "c._WORTHWHILE_S = -1.0; c.make_archives(Path(sys.argv[1]))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(folder)]) for _ in range(2)]
    assert [p.wait(240) for p in both] == [0, 0]
    assert list(folder.glob("*.jsa")) == [Path(fields["archive"])]


def test_other_jars_have_another_archive(tmp_path, folder):
    jars = tmp_path / "jars"
    jars.mkdir()
    (jars / "a.jar").write_bytes(b"1")

    def archive():
        use = use_archive(folder, "tool", JAVA_HOME, str(jars / "*"))
        return json.loads((use.recording / "recipe.json").read_text())["archive"]

    first = archive()
    assert archive() == first
    (jars / "a.jar").write_bytes(b"12")
    changed = archive()
    (jars / "b.jar").write_bytes(b"1")
    assert len({first, changed, archive()}) == 3


def test_without_a_folder_for_it_a_jvm_starts_as_it_always_would(tmp_path, class_path):
    (tmp_path / "file").touch()
    use = use_archive(tmp_path / "file" / "archives", "tool", JAVA_HOME, class_path)
    assert (use.options, use.recording) == ((), None)


def test_one_that_loads_other_classes_than_the_next_does_not_record(folder, class_path):
    use = use_archive(folder, "tool", JAVA_HOME, class_path, records=False)
    assert (use.options, use.recording) == ((), None)
    assert not folder.exists()


def test_archives_are_made_by_a_process_that_nobody_waits_for(folder, recorded):
    # It throws away what so short a life recorded, which is enough to see it at work.
    make_archives_later(folder)
    wait_for(lambda: not recorded.recording.exists(), timeout_s=60)
