"""Every error that Tapeline raises on purpose.

An error's name says how to react; its message says what to do next.

::

    TapelineError                 exit code 1
    ├── UsageError                exit code 2: the command or a setting is wrong
    │   ├── TapeError             the tape cannot be read
    │   ├── SchemaError           a keyspace, table or topic is not what it must be
    │   └── ExpiredError          what is asked for needs trades that silver no longer has
    ├── ServiceUnavailableError   exit code 3: Kafka, Cassandra or another service does not answer
    │   └── AccessError           exit code 2: it answers, but does not let us in, or is not trusted
    ├── LocalStackError           exit code 4: a local service cannot be started or has died
    │   └── PreflightError        memory, disk, Java or a port is missing
    ├── FeedError                 exit code 5: the feed refuses us for good
    ├── DeliveryError             exit code 6: Kafka will not take a message
    ├── StreamError               exit code 7: the Spark job failed
    ├── PoisonError               exit code 8: most of what the topic holds is no trade
    ├── SpoolError                exit code 9: the producer's spool is full, or the disk fails
    └── AuditError                exit code 1: a layer is not what the one before it makes
"""

from __future__ import annotations


class TapelineError(Exception):
    """The root: a failure with a sentence for the user and an exit code."""

    exit_code = 1


class UsageError(TapelineError):
    """The command line or a setting is wrong; repeating it will not help."""

    exit_code = 2


class TapeError(UsageError):
    """A tape cannot be read, or a row of it is not a trade."""


class SchemaError(UsageError):
    """A keyspace, table or topic is missing or is not what Tapeline made."""


class ExpiredError(UsageError):
    """What is asked for needs trades that silver no longer has."""


class ServiceUnavailableError(TapelineError):
    """Kafka, Cassandra, the file system of the checkpoints or an API does not answer."""

    exit_code = 3


class AccessError(ServiceUnavailableError):
    """Kafka or Cassandra does not let us in, or cannot be trusted: a setting of it is wrong."""

    exit_code = 2


class LocalStackError(TapelineError):
    """A local service cannot be started, or has died."""

    exit_code = 4


class PreflightError(LocalStackError):
    """The machine lacks something the local stack needs."""


class FeedError(TapelineError):
    """The feed refuses us in a way that waiting will not repair."""

    exit_code = 5


class DeliveryError(TapelineError):
    """Kafka will not take a message, so the producer stops and nothing is dropped unseen."""

    exit_code = 6


class StreamError(TapelineError):
    """The Spark job failed."""

    exit_code = 7


class PoisonError(TapelineError):
    """Most of the newest messages are no valid trade; reading on would only hide it."""

    exit_code = 8


class SpoolError(TapelineError):
    """The spool is full or cannot be written, so the producer stops; the hole is a recorded gap.

    Also when a watch cannot write its outbox; it goes on from there when it is started again.
    """

    exit_code = 9


class AuditError(TapelineError):
    """An audit found differences; its report names them."""
