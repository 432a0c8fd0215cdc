"""Files and folders that options name, and a home: what may not be written is said at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tapeline.local.home import Home
from tapeline.local.lock import held
from tapeline.local.state import read_state
from tapeline.model.errors import UsageError
from tapeline.program.options import folder_or_uri, input_file, output_file, output_folder
from tapeline.program.settings import load_settings

NOBODY = 65534


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that may only be read, with a file in it, for somebody who is not root."""
    folder = Path(tempfile.mkdtemp())
    (folder / "file").touch(0o400)
    folder.chmod(0o555)
    is_root = os.getuid() == 0
    if is_root:
        os.setresuid(NOBODY, NOBODY, 0)
    yield folder
    if is_root:
        os.setresuid(0, 0, 0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["file", "new"])
def test_a_file_that_may_not_be_written_is_refused(locked: Path, name: str) -> None:
    with pytest.raises(typer.BadParameter, match="may not be written: name another file"):
        output_file(locked / name)


@pytest.mark.parametrize("name", [".", "new", "new/below"])
def test_a_folder_that_may_not_be_written_or_made_is_refused(locked: Path, name: str) -> None:
    with pytest.raises(typer.BadParameter, match="may not be written: name another folder"):
        output_folder(locked / name)


def test_a_file_that_may_not_be_read_is_refused(locked: Path) -> None:
    if os.geteuid() == NOBODY:  # it is root's
        with pytest.raises(typer.BadParameter, match="may not be read"):
            input_file(locked / "file")
    with pytest.raises(typer.BadParameter, match="There is no file"):
        input_file(locked / "other")


@pytest.mark.parametrize("name", [".", "new"])
def test_a_home_that_may_not_be_written_names_its_setting(locked: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be written \(.*\): set TAPELINE_HOME"):
        Home(locked / name).make_writable()


@pytest.mark.parametrize("name", ["home", "home/below"])
def test_a_home_of_somebody_else_names_its_setting(
    locked: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if os.geteuid() != NOBODY:
        locked.chmod(0)
    else:
        os.setresuid(0, 0, 0)
        locked.chmod(0o700)
        os.setresuid(NOBODY, NOBODY, 0)
    monkeypatch.setenv("TAPELINE_HOME", str(locked / name))
    with pytest.raises(UsageError, match="set TAPELINE_HOME to your own folder"):
        read_state(Home(load_settings().home))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"kept": true, "services": [{}]}', "7"])
def test_a_damaged_list_of_what_runs_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"stack\.json is damaged: .* delete it"):
        read_state(Home(tmp_path))


def test_a_home_that_the_system_does_not_allow_names_its_setting() -> None:
    with pytest.raises(UsageError, match="set TAPELINE_HOME to a folder of your own"):
        Home(Path("/proc/none/home")).make_private()


def test_a_lock_that_cannot_be_made_names_its_folder() -> None:
    refused = pytest.raises(UsageError, match=r"/proc/none cannot be written")
    with refused, held(Path("/proc/none/lock"), "held"):
        pass


def test_a_tilde_is_the_users_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "there").touch()
    assert output_file(Path("~/new")) == tmp_path / "new"
    assert output_folder(Path("~/new")) == tmp_path / "new"
    assert input_file(Path("~/there")) == tmp_path / "there"
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


def test_what_is_not_given_stays_so() -> None:
    assert (output_file(None), output_folder(None), input_file(None)) == (None, None, None)


@pytest.mark.parametrize("form", ["{}", "file://{}", "file:{}", "FILE://{}"])
def test_a_folder_of_this_machine_may_be_given_as_a_uri(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "with blank, 100 %"
    assert folder_or_uri(form.format(folder)) == str(folder)
    (tmp_path / "file").touch()
    with pytest.raises(typer.BadParameter, match="is a file: name a folder"):
        folder_or_uri(form.format(tmp_path / "file"))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("hdfs://names:8020/tapeline", "hdfs://names:8020/tapeline"),
        ("hdfs://names/tapeline/a/", "hdfs://names/tapeline/a"),
        ("hdfs:///tapeline", "hdfs:///tapeline"),
        ("s3a://bucket/tapeline", "s3a://bucket/tapeline"),
        ("abfss://box@account.example/tapeline", "abfss://box@account.example/tapeline"),
        (None, None),
    ],
)
def test_a_uri_of_hadoop_is_taken_as_it_is(given: str | None, taken: str | None) -> None:
    assert folder_or_uri(given) == taken


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("hdfs:/tapeline", "is not a valid folder: give one such as hdfs://"),
        ("hdfs://names:8020", "is not a valid folder"),
        ("s3a://bucket/", "is not a valid folder"),
        ("s3a://bucket/a?versions", "is not a valid folder"),
        ("file://names/tapeline", "names another machine: give file:///folder"),
        ("s3a://me:secret@bucket/a", "holds a password"),
    ],
)
def test_a_uri_that_names_no_folder_is_refused(given: str, said: str) -> None:
    with pytest.raises(typer.BadParameter, match=said) as refusal:
        folder_or_uri(given)
    assert "secret" not in str(refusal.value)
