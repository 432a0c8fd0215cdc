"""`python -m bench.plain`: arguments → writer, consumer → run."""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
from typing import Final

from bench.plain.consumer import PlainConsumer
from bench.plain.writers import AcsyllaWriter, DriverWriter, Writer
from bench.plain.writes_only import WritesOnly

_WRITERS: Final[dict[str, type[AcsyllaWriter | DriverWriter]]] = {
    "acsylla": AcsyllaWriter,
    "cassandra-driver": DriverWriter,
}


async def run(options: argparse.Namespace) -> None:
    """Run until SIGTERM, or to the end of the topic."""
    writer: Writer = _WRITERS[options.driver]()
    await writer.open(options.cassandra_port, options.keyspace)
    kind = WritesOnly if options.writes_only else PlainConsumer
    consumer = kind(
        options.kafka,
        options.topic,
        options.topic_id,
        writer,
        until_end=options.until_end,
    )
    # What lives long is not looked at again and again; nothing here makes cycles.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    task = asyncio.ensure_future(consumer.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return
    finally:
        await writer.close()


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description="Kafka to Cassandra by a plain consumer.")
    parser.add_argument("--driver", choices=list(_WRITERS), default="acsylla")
    parser.add_argument("--kafka", required=True, help="Kafka's address")
    parser.add_argument("--cassandra-port", type=int, required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--topic-id", required=True, help="names its progress")
    parser.add_argument("--keyspace", required=True)
    parser.add_argument(
        "--writes-only", action="store_true", help="prepare rows first, then only write them"
    )
    parser.add_argument("--until-end", action="store_true", help="stop at the topic's end")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
