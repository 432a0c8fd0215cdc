"""Where spools are: one folder a topic, in it one a producer, each used by one process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import structlog

from tapeline.errors import UsageError
from tapeline.local.home import Home
from tapeline.local.lock import held
from tapeline.producer.spool import Spool
from tapeline.settings import Settings

log = structlog.get_logger()

_LOCK: Final = ".lock"
_MB: Final = 2**20


@contextmanager
def opened_spool(settings: Settings, producer_id: str, *, is_tape: bool) -> Iterator[Spool]:
    """Open a producer's spool, with what producers of other names have left for the same topic.

    Another name is another choice of symbols, or another host's name. What a tape has left is
    dropped: it is played again.

    Raises:
        UsageError: a producer of that name runs already.
        SpoolError: the disk fails.
    """
    topics = Home(settings.home).spool / settings.kafka.topic
    topics.mkdir(parents=True, exist_ok=True)
    for folder in (topics.parent, topics):
        folder.chmod(0o700)
    message = f"Another producer {producer_id} of topic {settings.kafka.topic} runs: stop it first."
    with held(topics / f"{producer_id}{_LOCK}", message):
        folder = topics / producer_id
        if is_tape:
            shutil.rmtree(folder, ignore_errors=True)
        spool = Spool(folder, settings.spool.max_mb * _MB)
        if not is_tape:
            _adopt_others(spool, topics, folder)
        if spool.unsent:
            log.warning("spool_has_messages", messages=spool.unsent)
        yield spool


def _adopt_others(spool: Spool, topics: Path, own: Path) -> None:
    for folder in sorted(topics.iterdir()):
        if folder == own or not folder.is_dir():
            continue
        with ExitStack() as stack:
            try:
                stack.enter_context(held(topics / f"{folder.name}{_LOCK}", ""))
            except UsageError:
                continue  # its producer runs
            moved = spool.adopt(folder)
            log.info("spool_adopted", producer=folder.name, messages=moved)
