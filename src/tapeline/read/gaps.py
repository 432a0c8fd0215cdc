"""Gaps of the feed, read when a bar asks for them and once only."""

from __future__ import annotations

from datetime import datetime
from functools import cache

from tapeline.model.rollup import Gaps
from tapeline.storage.cassandra_client import CassandraClient


def gaps_between(client: CassandraClient, start: datetime, end: datetime) -> Gaps:
    """Return what reads the gaps that overlap a time."""
    return cache(lambda: list(client.gaps(start, end)))
