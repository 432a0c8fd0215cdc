"""Files in any file system that Hadoop knows, through the JVM of our Spark.

It speaks the calls of `pathlib.Path` that `Place` names, with Spark's own settings of Hadoop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors.exceptions.captured import CapturedException
from pyspark.sql import SparkSession

from tapeline.consumer.checkpoint_place import Place
from tapeline.model.errors import ServiceUnavailableError, StreamError, TapelineError, UsageError

_PATIENCE: Final = {
    "ipc.client.connect.max.retries": "3",
    "ipc.client.connect.max.retries.on.timeouts": "1",
    "ipc.client.connect.timeout": "5000",
    "ipc.client.rpc-timeout.ms": "20000",
}
"""Hadoop's own would wait a quarter of an hour for a name node that is not there."""

_JARS: Final = {
    "s3a": "org.apache.hadoop:hadoop-aws",
    "abfs": "org.apache.hadoop:hadoop-azure",
    "abfss": "org.apache.hadoop:hadoop-azure",
}
"""What has the file system of a scheme and is of Hadoop's own version."""

_NO_JAR: Final = frozenset(
    {"ClassNotFoundException", "NoClassDefFoundError", "UnsupportedFileSystemException"}
)
_NO_RIGHT: Final = frozenset({"AccessControlException", "AccessDeniedException"})
_AWAY: Final = frozenset(
    {
        "BlockMissingException",
        "ConnectException",
        "ConnectTimeoutException",
        "EOFException",
        "NoRouteToHostException",
        "RetriableException",
        "SafeModeException",
        "SocketTimeoutException",
        "StandbyException",
        "UnknownHostException",
    }
)
_EXISTS: Final = frozenset({"AlreadyBeingCreatedException", "FileAlreadyExistsException"})


def place_of(text: str, session: Callable[[], SparkSession]) -> Place:
    """Return a folder of this machine, or one of Hadoop's where it is given by a URI.

    Args:
        text: a path, or SCHEME://….
        session: gives the session, when it is first needed.
    """
    if "://" not in text:
        return Path(text)
    return HadoopPath(HadoopFileSystem(text, session), text)


class HadoopFileSystem:
    """The file system of a URI, opened in the JVM when it is first needed.

    Args:
        uri: of anything in it.
        session: gives the session whose JVM and settings are used.
    """

    def __init__(self, uri: str, session: Callable[[], SparkSession]) -> None:
        self._uri = uri
        self._session = session

    @cached_property
    def jvm(self) -> Any:
        """The view on the JVM."""
        return self._session().sparkContext._jvm  # noqa: SLF001 - the only way to the JVM

    @cached_property
    def calls(self) -> Any:
        """Hadoop's FileSystem, one of our own: Spark's waits for longer."""
        java = self._session().sparkContext._jsc  # noqa: SLF001 - the same
        settings = self.jvm.org.apache.hadoop.conf.Configuration(java.hadoopConfiguration())
        for name, value in _PATIENCE.items():
            settings.set(name, value)
        uri = self.path(self._uri).toUri()
        return self.jvm.org.apache.hadoop.fs.FileSystem.newInstance(uri, settings)

    def path(self, text: str) -> Any:
        """Return Hadoop's form of a path."""
        return self.jvm.org.apache.hadoop.fs.Path(text)

    @contextmanager
    def explained(self, path: str) -> Iterator[None]:
        """Raise what Java throws as what Python's files raise, or with a sentence."""
        try:
            yield
        except Py4JJavaError as error:
            raise _error_of(error.java_exception, path, self._version) from error
        except CapturedException as error:  # what PySpark takes for its own
            thrown = error._origin  # noqa: SLF001 - nothing else has the exception of Java
            raise _error_of(thrown, path, self._version) from error
        except (Py4JError, ConnectionError) as error:
            message = f"{path} cannot be reached: Spark's Java process has gone."
            raise StreamError(message) from error

    def _version(self) -> str:
        return str(self.jvm.org.apache.hadoop.util.VersionInfo.getVersion())


class HadoopPath:
    """A file or folder of a HadoopFileSystem; see `Place`."""

    def __init__(self, files: HadoopFileSystem, uri: str) -> None:
        self._files = files
        self._uri = uri

    def __str__(self) -> str:
        """Return the URI."""
        return self._uri

    @property
    def name(self) -> str:
        """The last part."""
        return self._uri.rpartition("/")[2]

    def __truediv__(self, part: str, /) -> HadoopPath:
        """Return what lies below under a name."""
        return HadoopPath(self._files, f"{self._uri.rstrip('/')}/{part}")

    def exists(self) -> bool:
        """Return whether it is there."""
        with self._calls() as (calls, path):
            return bool(calls.exists(path))

    def iterdir(self) -> Iterator[HadoopPath]:
        """Yield what lies in a folder."""
        with self._calls() as (calls, path):
            names = [str(status.getPath().getName()) for status in calls.listStatus(path)]
        yield from (self / name for name in names)

    def read_bytes(self) -> bytes:
        """Return what a file holds."""
        with self._calls() as (calls, path):
            stream = calls.open(path)
            try:
                return bytes(stream.readAllBytes())
            finally:
                stream.close()

    def write_bytes(self, data: bytes, /) -> int:
        """Make a file hold this and nothing else."""
        with self._calls() as (calls, path):
            stream = calls.create(path, True)  # noqa: FBT003 - Java's call
            stream.write(data)
            stream.close()
        return len(data)

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a folder and those above it, which Hadoop always does, and never minds one there."""
        if not (parents and exist_ok):
            message = "Hadoop makes folders with those above, there or not."
            raise NotImplementedError(message)
        with self._calls() as (calls, path):
            calls.mkdirs(path)

    def touch(self, *, exist_ok: bool = True) -> None:
        """Make an empty file if there is none."""
        try:
            with self._calls() as (calls, path):
                calls.create(path, False).close()  # noqa: FBT003 - Java's call
        except FileExistsError:
            if not exist_ok:
                raise

    def replace(self, target: HadoopPath, /) -> HadoopPath:
        """Give a file another name; on the way there nothing may have that name for a moment."""
        target.unlink(missing_ok=True)
        return self.rename(target)

    def rename(self, target: HadoopPath, /) -> HadoopPath:
        """Give it another name, which nothing has."""
        with self._calls() as (calls, path):
            is_done = calls.rename(path, self._files.path(str(target)))
        if not is_done:
            message = f"{self} cannot be renamed to {target}."
            raise StreamError(message)
        return target

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Delete a file."""
        with self._calls() as (calls, path):
            is_done = calls.delete(path, False)  # noqa: FBT003 - Java's call
        if not is_done and not missing_ok:
            raise FileNotFoundError(self._uri)

    def delete(self) -> None:
        """Delete a folder with all that lies in it; nothing happens when it is not there."""
        with self._calls() as (calls, path):
            calls.delete(path, True)  # noqa: FBT003 - Java's call

    @contextmanager
    def _calls(self) -> Iterator[tuple[Any, Any]]:
        with self._files.explained(self._uri):
            yield self._files.calls, self._files.path(self._uri)


def _error_of(thrown: Any, path: str, version: Callable[[], str]) -> Exception:
    """Return what to raise for what Java has thrown at the use of a path."""
    chain = list(_causes(thrown))
    kinds = {kind for kind, _ in chain}
    if "FileNotFoundException" in kinds:
        return FileNotFoundError(path)
    if kinds & _EXISTS:
        return FileExistsError(path)
    return _sentence(kinds, chain[-1][1], path, version)


def _sentence(kinds: set[str], cause: str, path: str, version: Callable[[], str]) -> TapelineError:
    scheme = path.partition(":")[0]
    if kinds & _NO_JAR:
        jar = f"{_JARS[scheme]}:{version()}" if scheme in _JARS else "a jar that brings it"
        return UsageError(
            f"Spark has no file system for {scheme}://, so {path} cannot be used: run the stream "
            f"by spark-submit with --packages {jar} (docs/cluster.md)."
        )
    if kinds & _NO_RIGHT:
        return UsageError(
            f"We have no right to {path}: {cause} Have its owner give it, choose another "
            "--checkpoint-dir, or name another user with HADOOP_USER_NAME."
        )
    if "UnknownHostException" in kinds:
        cause = f"there is no host {urlsplit(path).hostname}."
    if kinds & _AWAY:
        return ServiceUnavailableError(
            f"The file system of {path} does not answer: {cause} Start it, or name another "
            "--checkpoint-dir."
        )
    return StreamError(f"{path} cannot be used: {cause}")


def _causes(thrown: Any) -> Iterator[tuple[str, str]]:
    """Yield the class and the first line, as a sentence, of an exception and of its causes."""
    while thrown is not None:
        kind = str(thrown.getClass().getSimpleName())
        if kind == "RemoteException":
            kind = str(thrown.getClassName()).rpartition(".")[2]
        first = next(iter(str(thrown.getMessage() or kind).splitlines()), kind)
        yield kind, f"{first.partition('; For more details')[0].rstrip('.')}."
        thrown = thrown.getCause()
