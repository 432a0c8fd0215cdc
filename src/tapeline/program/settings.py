"""All settings, in one frozen tree, read from the environment at the edge.

A nested field is named with two underscores: `TAPELINE_KAFKA__BOOTSTRAP_SERVERS`. The text
below a field is what `tapeline settings` prints, `docs/settings.md` and `.env.example` hold.
"""

from __future__ import annotations

import os
from datetime import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Final

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
    SettingsError,
)

from tapeline.model.bar import Interval
from tapeline.model.conditions import SIP_ODDLOT
from tapeline.model.errors import UsageError
from tapeline.model.names import check_keyspace_name, check_topic_name
from tapeline.model.rules import Rules
from tapeline.model.sessions import POST_CLOSE, set_overnight
from tapeline.model.symbols import split_names
from tapeline.program import setting_types as valid
from tapeline.program.profile import Profile
from tapeline.program.rule_file import read_policy
from tapeline.program.service_settings import FROZEN, CassandraSettings, KafkaSettings
from tapeline.program.setting_errors import explain, misspelt, variables_of
from tapeline.program.setting_types import LAST_PORT, LONGEST_S
from tapeline.program.watch_settings import WatchSettings


class LogLevel(str, Enum):
    """The least severe event that is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class LogFormat(str, Enum):
    """How a logged event is written."""

    LOGFMT = "logfmt"
    JSON = "json"


API_KEY_VARIABLE: Final = "FINNHUB_API_KEY"
SECRET_VARIABLES: Final = (
    API_KEY_VARIABLE,
    "TAPELINE_KAFKA__PASSWORD",
    "TAPELINE_CASSANDRA__PASSWORD",
    "TAPELINE_WATCH__WEBHOOK",
    "TAPELINE_WATCH__SECRET",
    "TAPELINE_WATCH__API_KEY",
)
"""The variables that hold secrets."""

API_PORT: Final = 8700
"""Where `tapeline api` listens when it is told no other port."""

ENV_PREFIX: Final = "TAPELINE_"
ENV_DELIMITER: Final = "__"
ENV_FILE_VARIABLE: Final = "TAPELINE_ENV_FILE"
"""Names a file of variables; the environment goes before it."""
_MOST: Final = 1_000_000_000


def _policy(text: str | Rules) -> Rules:
    try:
        return text if isinstance(text, Rules) else read_policy(text)
    except UsageError as error:
        raise ValueError(str(error).rstrip(".")) from error


_Policy = Annotated[
    Rules, PlainValidator(_policy), PlainSerializer(lambda rules: rules.option), NoDecode
]


class FinnhubSettings(BaseModel):
    """The feed's connection."""

    model_config = FROZEN

    url: valid.FeedUrl = "wss://ws.finnhub.io"
    """The WebSocket address, without the token."""
    heartbeat_timeout_s: valid.Seconds = 150.0
    """Seconds without any message, pings among them, after which to reconnect."""
    idle_timeout_s: valid.Seconds = 300.0
    """Seconds without a trade, though pings come and a market is open, that count as a gap; far
    more when trades are usually rare."""
    symbol_silence_s: valid.Seconds = 900.0
    """Seconds after which a symbol without trades is reported, while others have some."""
    same_millisecond_s: valid.Seconds = 2.0
    """Seconds for which further trades of a symbol's newest millisecond count as in order."""
    redelivery_memory_s: float = Field(default=600.0, ge=0, le=LONGEST_S)
    """Seconds for which frames are remembered, to know those that the feed sends again."""
    max_frame_bytes: int = Field(default=15 * 1024 * 1024, gt=0, le=15 * 1024 * 1024)
    """The largest frame that is read, in bytes; Kafka takes dead letters of up to 16 MiB."""


class FeedsSettings(BaseModel):
    """The public feeds' addresses; their time-outs are those of TAPELINE_FINNHUB."""

    model_config = FROZEN

    coinbase: valid.FeedUrl = "wss://ws-feed.exchange.coinbase.com"
    """The WebSocket address of Coinbase Exchange."""
    coinbase_history: valid.HistoryUrl = "https://api.exchange.coinbase.com"
    """Where trades that were missed are fetched; none for nowhere, so that they stay a gap."""
    kraken: valid.FeedUrl = "wss://ws.kraken.com/v2"
    """The WebSocket address of Kraken, version 2 of its protocol."""
    kraken_history: valid.HistoryUrl = "https://api.kraken.com"
    """Where trades that were missed are fetched, or none."""
    binance: valid.FeedUrl = "wss://data-stream.binance.vision/ws"
    """The WebSocket address of Binance, the one for market data alone."""
    binance_history: valid.HistoryUrl = "https://data-api.binance.vision"
    """Where trades that were missed are fetched, or none."""


class SpoolSettings(BaseModel):
    """What the producer keeps on disk until Kafka has it."""

    model_config = FROZEN

    max_mb: int = Field(default=1024, ge=64, le=1024 * 1024)
    """The most that the spool may take, in MB; when it is full the producer stops."""
    group_ms: int = Field(default=20, ge=1, le=1000)
    """Milliseconds between two writes to the spool; what a kill of the producer can lose."""


class StreamSettings(BaseModel):
    """The Spark job."""

    model_config = FROZEN

    master: valid.Master = "local[2]"
    """Spark master when the job is not run by spark-submit."""
    driver_memory: valid.Memory | None = None
    """Heap of the Spark driver, as Java writes sizes; that of the profile when not set."""
    watermark_s: int = Field(default=600, ge=1, le=LONGEST_S)
    """Seconds that a trade may be late before its bar has to be revised."""
    policy: _Policy = SIP_ODDLOT
    """Which trades set and add to what: sip, sip+oddlot, all or a file of rules (docs/bars.md)."""
    shuffle_partitions: int = Field(default=2, ge=1, le=10_000)
    """Tasks that the trades of a batch are divided among after they were read. A checkpoint keeps
    the number that it was made with."""
    max_offsets_per_trigger: int | None = Field(default=None, ge=1, le=_MOST)
    """The most messages that one micro-batch takes; what the profile takes when not set."""
    finalize_interval_s: valid.Seconds = 2.0
    """Seconds between two looks for windows that can be finalized."""
    finalize_max_windows: int = Field(default=4_000, ge=1, le=_MOST)
    """The most windows whose bars are computed, written and marked at once."""
    poison_share: float = Field(default=0.5, gt=0, le=1)
    """Share of bad messages among the newest at which the job stops; 1 never stops it."""
    poison_messages: int = Field(default=1_000, ge=1, le=_MOST)
    """How many of the newest messages are judged, at least."""
    store_1m: bool = False
    """Store bars of one minute too."""

    @property
    def shortest_interval(self) -> Interval:
        """The shortest interval whose bars are stored."""
        return Interval.ONE_MINUTE if self.store_1m else Interval.FIVE_MINUTES


class MetricsSettings(BaseModel):
    """The address of the metrics."""

    model_config = FROZEN

    host: valid.Host = "127.0.0.1"
    """Address on which /metrics is served; anyone who reaches it can read the metrics."""
    producer_port: int = Field(default=9108, ge=0, le=LAST_PORT)
    """Port of `tapeline produce`; 0 serves nothing. When it is taken, a free one is used."""
    stream_port: int = Field(default=9109, ge=0, le=LAST_PORT)
    """Port of `tapeline stream`; 0 serves nothing. When it is taken, a free one is used."""


class ApiSettings(BaseModel):
    """What `tapeline api` allows."""

    model_config = FROZEN

    cors_origins: valid.Origins = ""
    """Origins whose pages may read the API from a browser, with commas between them, as
    https://charts.example; * is every one."""
    keys_file: Path | None = None
    """File of the keys of which the API asks for one, a line each (docs/api.md); it asks for none
    when not set."""
    request_rate: float = Field(default=50.0, ge=0, le=1_000_000)
    """Requests a second that one client may make for long; 0 sets no limit. A client is a key, else
    an address; this machine has no limit without a key."""
    burst: int = Field(default=200, ge=1, le=_MOST)
    """Requests that one client may make at once, after it has made none for a while."""
    streams_per_client: int = Field(default=50, ge=1, le=500)
    """Event streams and WebSockets that one client may have open; 500 are the most of all."""
    proxies: valid.Networks = ""
    """Addresses and networks of our own proxies, with commas between them: what they say in
    X-Forwarded-For and X-Forwarded-Proto is believed; nobody is when not set."""

    symbol_changes: str = ""
    """Who may add and remove symbols of running producers: names of keys, with commas between them;
    or local, where no keys are set, for who asks from this machine. Nobody when not set."""

    @property
    def origins(self) -> list[str]:
        """The origins, each by itself."""
        return list(split_names(self.cors_origins))

    @property
    def may_change_symbols(self) -> list[str]:
        """The names of those who may change symbols."""
        return list(split_names(self.symbol_changes))


def _evening(begins: time) -> time:
    is_full = begins == begins.replace(minute=begins.minute // 5 * 5, second=0, microsecond=0)
    if begins.tzinfo is not None or begins < POST_CLOSE or not is_full:
        message = "give a time from 20:00 to 23:55 in full five minutes, such as 20:00 or 21:00"
        raise ValueError(message)
    return begins


class Settings(BaseSettings):
    """Everything that can be set, with its default."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        env_ignore_empty=True,
        extra="ignore",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        str_strip_whitespace=True,
    )

    finnhub_api_key: valid.Key | None = Field(default=None, validation_alias=API_KEY_VARIABLE)
    """The feed's token; a free key from finnhub.io will do. It is shown nowhere."""
    home: valid.Folder = Field(default_factory=lambda: Path(platformdirs.user_data_dir("tapeline")))
    """Folder of the local stack's jars, data, logs and checkpoints; one for user data of the
    operating system when not set."""
    profile: Profile = Profile.STANDARD
    """How much memory and processor local processes may take: small (for `tapeline demo` when not
    set) or standard."""
    log_level: LogLevel = LogLevel.INFO
    """The least severe event that is logged: DEBUG, INFO, WARNING or ERROR."""
    log_format: LogFormat = LogFormat.LOGFMT
    """How events are logged, a line each: logfmt (key=value) or json. What Java writes itself
    is as it is."""
    overnight_from: Annotated[time, AfterValidator(_evening)] | None = None
    """When trading of American shares at night begins, New York time, as 20:00 or 21:00; bars from
    then to 04:00 are `overnight`, and `closed` when not set. Every process of a keyspace needs the
    same."""
    finnhub: FinnhubSettings = FinnhubSettings()
    feeds: FeedsSettings = FeedsSettings()
    kafka: KafkaSettings = KafkaSettings()
    spool: SpoolSettings = SpoolSettings()
    cassandra: CassandraSettings = CassandraSettings()
    stream: StreamSettings = StreamSettings()
    api: ApiSettings = ApiSettings()
    watch: WatchSettings = WatchSettings()
    metrics: MetricsSettings = MetricsSettings()

    def with_target(
        self,
        *,
        topic: str | None = None,
        keyspace: str | None = None,
        policy: Rules | None = None,
        profile: Profile | None = None,
    ) -> Settings:
        """Return the same settings with another topic, keyspace, policy or profile.

        Raises:
            UsageError: the name of the topic or the keyspace is none.
        """
        kafka, cassandra = self.kafka, self.cassandra
        if keyspace is not None:
            cassandra = cassandra.model_copy(update={"keyspace": check_keyspace_name(keyspace)})
        if topic is not None:
            kafka = kafka.model_copy(update={"topic": check_topic_name(topic)})
        stream = self.stream.model_copy(update={"policy": policy} if policy else {})
        update = {"kafka": kafka, "cassandra": cassandra, "stream": stream}
        return self.model_copy(update={**update, "profile": profile or self.profile})


def load_settings() -> Settings:
    """Read the settings from the environment and the file that TAPELINE_ENV_FILE names.

    Raises:
        UsageError: there is no such file, or a variable's value or name is wrong.
    """
    file = os.environ.get(ENV_FILE_VARIABLE) or None
    if file is not None:
        file = str(Path(file).expanduser())
        if not Path(file).is_file():
            message = f"{ENV_FILE_VARIABLE} names {file}, which is no file."
            raise UsageError(message)
    try:
        in_file = DotEnvSettingsSource(Settings, env_file=file).env_vars
        known = set(variables_of(Settings.model_fields, ENV_PREFIX, ENV_DELIMITER))
        if mistake := misspelt({**in_file, **os.environ}, known, ENV_PREFIX):
            raise UsageError(mistake)
        settings = Settings(_env_file=file)  # type: ignore[call-arg]
    except ValidationError as error:
        raise UsageError(explain(error, ENV_PREFIX, ENV_DELIMITER)) from None
    except SettingsError as error:
        message = f"{error}: name one setting, as TAPELINE_KAFKA__TOPIC."
        raise UsageError(message) from None
    except (OSError, UnicodeError) as error:
        message = f"{ENV_FILE_VARIABLE} names {file}, which cannot be read: {error}"
        raise UsageError(message) from None
    set_overnight(settings.overnight_from)
    return settings
