"""Where spools are: one folder a topic, in it one a producer, each used by one process.

::

    trades_raw/host-1a2b3c4d          the spool of that producer
    trades_raw/host-1a2b3c4d.numbers  the newest numbers of its feed's trades
    trades_raw/host-5e6f7a8b~17…      one that a producer of this name had left, taken over

A spool that is taken over gets another name, so that its producer can start again meanwhile.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from tapeline.local.home import Home
from tapeline.local.lock import held, is_held
from tapeline.model.errors import UsageError
from tapeline.producer.id_file import IdFile
from tapeline.producer.segments import unsent_in
from tapeline.producer.spool import Spool
from tapeline.program.settings import Settings

log = structlog.get_logger()

_LOCK: Final = ".lock"
_NUMBERS: Final = ".numbers"
_TAKEN: Final = "~"
_MB: Final = 2**20


class LeftSpool(NamedTuple):
    """What a producer of another name had left, held as long as this process runs."""

    producer_id: str
    folder: Path
    spool: Spool

    def delete(self) -> None:
        """Delete it and its lock file, whose name is never used again."""
        shutil.rmtree(self.folder)
        _lock_of(self.folder).unlink(missing_ok=True)


class Spools(NamedTuple):
    """A producer's own spool, those that others have left, and the numbers of its feed."""

    own: Spool
    left: tuple[LeftSpool, ...] = ()
    numbers: IdFile | None = None

    def last_receipt_us(self, producer_id: str) -> int | None:
        """Return a producer's newest receipt on the disk, in our own spool or one that it left."""
        known = (s.spool.last_receipt_us for s in self.left if s.producer_id == producer_id)
        return max((us for us in (self.own.last_receipt_us, *known) if us), default=None)


@contextmanager
def opened_spools(
    settings: Settings, producer_id: str, beside: Collection[str] = (), *, is_tape: bool
) -> Iterator[Spools]:
    """Open a producer's spool, and those that producers of other names left for the same topic.

    Another name is another choice of symbols, or another host's name. What a tape has left is
    dropped: it is played again, and takes over nothing.

    Args:
        settings: home, topic and size.
        producer_id: the producer's name.
        beside: names of producers that this process starts as well, whose spools are left alone.
        is_tape: whether it plays a tape.

    Raises:
        UsageError: a producer of that name runs already, or its folder would be within another's.
        SpoolError: the disk fails.
    """
    if "/" in producer_id:
        message = f"A producer's name has no slash: choose another one than {producer_id}."
        raise UsageError(message)
    topics = Home(settings.home).spool / settings.kafka.topic
    topics.mkdir(parents=True, exist_ok=True)
    for folder in (topics.parent, topics):
        folder.chmod(0o700)
    message = f"Another producer {producer_id} of topic {settings.kafka.topic} runs: stop it first."
    own = topics / producer_id
    max_bytes = settings.spool.max_mb * _MB
    with ExitStack() as stack:
        stack.enter_context(held(_lock_of(own), message))
        left: list[LeftSpool] = []
        if is_tape:
            shutil.rmtree(own, ignore_errors=True)
        else:
            ours = {own, *(topics / name for name in beside)}
            for name, folder in _taken_over(topics, ours, stack):
                left.append(LeftSpool(name, folder, Spool(folder, max_bytes)))
                log.info("spool_taken_over", producer=name, messages=left[-1].spool.unsent)
        spool = Spool(own, max_bytes)
        if spool.unsent:
            log.warning("spool_has_messages", messages=spool.unsent)
        yield Spools(spool, tuple(left), IdFile(own.with_name(f"{own.name}{_NUMBERS}")))


def left_behind(settings: Settings) -> Iterator[tuple[str, int]]:
    """Yield the name of each producer of the topic that does not run, and its unsent messages.

    Only looks; a spool of which Kafka has all is left out.

    Raises:
        OSError: a spool may not be read.
    """
    topic = Home(settings.home).spool / settings.kafka.topic
    folders = sorted(topic.iterdir()) if topic.is_dir() else []
    for folder in folders:
        if folder.is_dir() and not is_held(_lock_of(folder)) and (unsent := unsent_in(folder)):
            yield folder.name.partition(_TAKEN)[0], unsent


def _taken_over(
    topics: Path, ours: Collection[Path], stack: ExitStack
) -> Iterator[tuple[str, Path]]:
    """Yield the name of each producer that does not run and its spool, which the stack holds."""
    for folder in sorted(topics.iterdir()):
        if folder in ours or not folder.is_dir():
            continue
        name, taken, number = folder.name.rpartition(_TAKEN)
        # Its producer runs, or whoever has taken it over, perhaps since the folders were listed.
        with suppress(UsageError, FileNotFoundError):
            if not taken or not number.isdigit():
                name = folder.name
                folder = _renamed(folder)  # noqa: PLW2901 - it is the same one
            stack.enter_context(held(_lock_of(folder), ""))
            if folder.exists():
                yield name, folder


def _renamed(folder: Path) -> Path:
    with held(_lock_of(folder), ""):
        return folder.rename(folder.with_name(f"{folder.name}{_TAKEN}{time.time_ns()}"))


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_LOCK}")
