"""Turn what Spark, Kafka and Cassandra raise into one sentence that says what to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from confluent_kafka import KafkaException
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException

from tapeline.consumer.session import is_submitted
from tapeline.errors import StreamError

AWAY: Final = (KafkaException, DriverException, NoHostAvailable)
"""What Kafka and Cassandra raise when they do not answer."""


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
        message = f"The {work} has failed; started again, it goes on where it was. {error}"
        if isinstance(error, (Py4JNetworkError, ConnectionError)):
            message = (
                f"Spark's Java process has gone. Start the {work} again: it goes on where it was."
            )
        raise StreamError(message) from error
