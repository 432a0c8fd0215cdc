"""How much memory and processor the local processes may take: two profiles, in one table.

`small` is for a laptop that does something else beside: a free feed of some 60 trades a second.
`standard` is for a machine that is there for Tapeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

PROFILE_HELP: Final = "How much memory and processor local processes may take."


class Profile(str, Enum):
    """The names of the profiles."""

    SMALL = "small"
    STANDARD = "standard"

    @property
    def sizes(self) -> Sizes:
        """What the profile gives to each process."""
        return _SIZES[self]


@dataclass(frozen=True, slots=True)
class JvmSizes:
    """A Java process: its heap, as Java writes sizes, and further options of its JVM."""

    heap: str
    options: tuple[str, ...]
    first_heap: str = "64m"

    @property
    def arguments(self) -> list[str]:
        """The options of `java`."""
        return [f"-Xms{self.first_heap}", f"-Xmx{self.heap}", *self.options]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What one profile gives.

    `trigger` is the time between two micro-batches while nothing is waiting, `batch` the most
    messages that one takes, which go through the heap of `spark`; the two maps hold
    what is set in Kafka's properties and in cassandra.yaml; `needed_memory_mb` is what must be
    free before the first of the processes is started.
    """

    kafka: JvmSizes
    cassandra: JvmSizes
    spark: JvmSizes
    trigger: str
    batch: int
    needed_memory_mb: int
    kafka_properties: Mapping[str, Any] = field(default_factory=dict)
    cassandra_yaml: Mapping[str, Any] = field(default_factory=dict)


# One collector's thread and one compiler: at some 60 trades a second, neither the second compiler
# nor a second thread ever pays what it takes.
_LIGHT: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# With one compiler Java has room for 48 MB of code. Spark fills that in ten minutes, and what is
# swept out then is soon made again.
_ROOM_FOR_CODE: Final = "-XX:ReservedCodeCacheSize=128m"

_SIZES: Final[Mapping[Profile, Sizes]] = MappingProxyType(
    {
        Profile.SMALL: Sizes(
            kafka=JvmSizes("160m", (*_LIGHT, "-XX:MaxDirectMemorySize=64m")),
            cassandra=JvmSizes("320m", (*_LIGHT, "-XX:MaxDirectMemorySize=128m")),
            spark=JvmSizes("512m", (*_LIGHT, _ROOM_FOR_CODE, "-XX:MaxDirectMemorySize=64m")),
            trigger="6 seconds",
            batch=100_000,
            needed_memory_mb=2500,
            kafka_properties=MappingProxyType(
                {
                    # Taken from the heap at once; a compacted topic of ours has few keys.
                    "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
                    "num.io.threads": 2,
                    "num.network.threads": 2,
                    "background.threads": 2,
                    "num.replica.fetchers": 1,
                }
            ),
            cassandra_yaml=MappingProxyType(
                {
                    "memtable_heap_space": "64MiB",
                    "memtable_offheap_space": "32MiB",
                    "memtable_flush_writers": 1,
                    "file_cache_size": "32MiB",
                    "networking_cache_size": "16MiB",
                    "key_cache_size": "0MiB",
                    "counter_cache_size": "0MiB",
                    "prepared_statements_cache_size": "4MiB",
                    "concurrent_reads": 8,
                    "concurrent_writes": 8,
                    "concurrent_counter_writes": 2,
                    "concurrent_materialized_view_writes": 1,
                    "concurrent_compactors": 1,
                    "native_transport_max_threads": 16,
                }
            ),
        ),
        Profile.STANDARD: Sizes(
            kafka=JvmSizes("512m", ("-XX:+UseG1GC",), first_heap="512m"),
            cassandra=JvmSizes(
                "1g", ("-XX:+UseG1GC", "-XX:MaxDirectMemorySize=512m"), first_heap="1g"
            ),
            spark=JvmSizes("1g", ()),
            trigger="0 seconds",
            batch=500_000,
            needed_memory_mb=4500,
        ),
    }
)
