"""Finnhub's WebSocket client: what every feed's does, with Finnhub's protocol and key."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import SecretStr

from tapeline.feeds.finnhub import Finnhub
from tapeline.producer.feed_client import FeedClient
from tapeline.producer.steady import steady_s
from tapeline.program.metrics import Metrics
from tapeline.program.settings import FinnhubSettings


class FinnhubClient(FeedClient):
    """One subscription of some symbols at Finnhub.

    Args:
        settings: address and time-outs.
        token: the feed's key.
        symbols: what to subscribe, in Finnhub's names.
        monotonic: seconds on a clock that never steps.
        metrics: where attempts to reconnect are counted.
    """

    def __init__(
        self,
        settings: FinnhubSettings,
        token: SecretStr,
        symbols: Sequence[str],
        monotonic: Callable[[], float] = steady_s,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__(Finnhub(token), settings.url, settings, symbols, monotonic, metrics)
