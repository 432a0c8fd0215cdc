"""Turn what Spark, Kafka and Cassandra raise into one sentence that says what to do."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from confluent_kafka import KafkaException
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException

from tapeline.consumer.session import is_submitted
from tapeline.model.errors import StreamError

AWAY: Final = (KafkaException, DriverException, NoHostAvailable)
"""What Kafka and Cassandra raise when they do not answer."""

_NO_SPACE: Final = "No space left on device"
_CAUSED_BY: Final = "Caused by: "
_RAISED: Final = re.compile(r"(\w+\.)+\w+: |\w+(Error|Exception): ")


@contextmanager
def failures_explained(work: str, stop: threading.Event | None = None) -> Iterator[None]:
    """Raise failures of a Spark job as a StreamError.

    Args:
        work: what failed, e.g. `stream`; started again, it goes on where it was.
        stop: set once the work has been asked to stop.
    """
    try:
        yield
    except (Py4JError, PySparkException, ConnectionError, *AWAY) as error:
        if stop is not None and stop.is_set() and is_submitted():
            # spark-submit's Java takes Ctrl-C too and ends Spark while we stop. The batch under
            # way is not committed: it runs again at the next start.
            return
        message = (
            f"The {work} has failed; started again, it goes on where it was. {cause_of(error)}"
        )
        if isinstance(error, (Py4JNetworkError, ConnectionError)):
            message = (
                f"Spark's Java process has gone. Start the {work} again: it goes on where it was."
            )
        raise StreamError(message) from error


def cause_of(error: BaseException | None) -> str:
    """Return the line of a failure that names its cause, without the stacks of Java and Python."""
    lines = str(error).strip().splitlines()
    caused = [line for line in lines if line.startswith(_CAUSED_BY)]
    if caused:
        return caused[-1].removeprefix(_CAUSED_BY)
    raised = [line for line in lines if _RAISED.match(line)]
    thrown = [line.removeprefix(": ") for line in lines if line.startswith(": ")]
    return next(iter([*thrown[:1], *raised[-1:], *lines[:1]]), "")


def full_disk(cause: str, folders: Iterable[Path]) -> str:
    """Return a sentence that names the disk if a failure was for want of room, else nothing.

    Args:
        cause: the line that names it.
        folders: where the failed work writes; the one with the least room is named.
    """
    existing = [folder for folder in folders if folder.exists()]
    if _NO_SPACE not in cause or not existing:
        return ""
    fullest = min(existing, key=lambda folder: shutil.disk_usage(folder).free)
    return f". The disk of {fullest} is full: free some, and start the stream again."
