"""What lies below the home: jars, checkpoints, spools that were left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tapeline.consumer.checkpoint_label import CheckpointLabel
from tapeline.local.home import Home, why_not_writable
from tapeline.local.jar_checksums import known_checksums, wrong_jars
from tapeline.local.jars import ALL_JARS, JarSet, jar_folder, missing_jars
from tapeline.local.lock import is_held
from tapeline.model.texts import counted
from tapeline.producer.spool_folder import left_behind
from tapeline.program.settings import Settings
from tapeline.status.doctor.finding import Finding


def check_jars_there(settings: Settings) -> Iterator[Finding]:
    """Compare each jar that was fetched with its SHA-256."""
    jars = Home(settings.home).jars
    for jar_set in ALL_JARS:
        check = f"jars of {jar_set.name}"
        try:
            yield _jars(check, jars, jar_set)
        except OSError as error:
            text = f"{jar_folder(jars, jar_set)} cannot be read ({error.strerror})."
            yield Finding.fail(check, text)


def _jars(check: str, jars: Path, jar_set: JarSet) -> Finding:
    folder = jar_folder(jars, jar_set)
    if missing_jars(jars, [jar_set]):
        text = f"Not fetched yet: the first start fetches some {jar_set.about_mb} MB."
        return Finding.not_checked(check, text)
    again = f"delete {folder}, and the next start fetches it again"
    if wrong := next(wrong_jars(folder, known_checksums()), None):
        return Finding.fail(check, f"{wrong} Do not use it: {again}.")
    count = len(list(folder.glob("*.jar")))
    if count == 0:
        return Finding.fail(check, f"{folder} holds no jar: {again}.")
    return Finding.ok(check, f"{counted(count, 'jar')}, each with its SHA-256.")


def check_checkpoints(settings: Settings) -> Finding:
    """Check that the stream may write its checkpoints, and that they are of this keyspace."""
    check, keyspace = "checkpoints", settings.cassandra.keyspace
    folder = Home(settings.home).checkpoints / keyspace
    if reason := why_not_writable(folder):
        text = (
            f"{folder} cannot be written ({reason}): mend that, or give `tapeline stream` another "
            "--checkpoint-dir."
        )
        return Finding.fail(check, text)
    if not folder.exists():
        return Finding.ok(check, f"{folder} is made when the stream starts.")
    owner = _owner(folder)
    try:
        return _labelled(check, folder, keyspace, owner)
    except OSError as error:
        text = f"{error.filename} cannot be read ({error.strerror}); the folder is {owner}'s."
        return Finding.fail(check, text)


def _labelled(check: str, folder: Path, keyspace: str, owner: str) -> Finding:
    for file in sorted(folder.glob("*/*/*/tapeline.json")):
        label = CheckpointLabel.read(file.parent)
        if label is not None and label.keyspace != keyspace:
            text = (
                f"{file.parent} is of keyspace {label.keyspace}: give the stream of {keyspace} "
                "another --checkpoint-dir, or take it over with --reset-checkpoint."
            )
            return Finding.fail(check, text)
    held = [lock for lock in sorted(folder.glob("*/*/*.lock")) if is_held(lock)]
    use = f"a stream works on {', '.join(lock.stem for lock in held)}" if held else "no stream runs"
    return Finding.ok(check, f"{folder} is {owner}'s and can be written; {use}.")


def _owner(folder: Path) -> str:
    try:
        return folder.owner()
    except KeyError:  # a user of another machine, or of a container
        return f"user {folder.stat().st_uid}"


def check_spools(settings: Settings) -> Finding:
    """Look for messages that a producer has left and Kafka does not have."""
    try:
        left = list(left_behind(settings))
    except OSError as error:
        return Finding.fail("spools", f"{error.filename} cannot be read ({error.strerror}).")
    if not left:
        return Finding.ok("spools", "No producer has left anything that Kafka does not have.")
    names = ", ".join(f"{name} {unsent:,}" for name, unsent in left)
    text = (
        f"Messages that Kafka does not have were left by {names}: start `tapeline produce` here, "
        "which sends them first."
    )
    return Finding.warn("spools", text)
