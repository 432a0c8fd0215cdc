"""Settings: read from the environment, frozen, and secret where they must be."""

from __future__ import annotations

import ast
import inspect
import os
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

from tapeline.model.conditions import SIP, SIP_ODDLOT
from tapeline.model.errors import UsageError
from tapeline.model.sessions import Session, session_at
from tapeline.program.settings import FinnhubSettings, Settings, load_settings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("TAPELINE_") or name.upper() == "FINNHUB_API_KEY":
            monkeypatch.delenv(name)


def test_the_defaults_are_the_documented_ones():
    settings = load_settings()
    assert settings.finnhub_api_key is None
    assert settings.finnhub.url == "wss://ws.finnhub.io"
    assert settings.finnhub.same_millisecond_s == 2.0
    assert settings.kafka.bootstrap_servers is None
    assert settings.kafka.topic == "trades_raw"
    assert settings.cassandra.host is None
    assert settings.cassandra.port == 9042
    assert settings.cassandra.keyspace == "market_data"
    assert settings.stream.watermark_s == 600
    assert settings.stream.policy is SIP_ODDLOT


@pytest.mark.parametrize("begins", ["20:00", "21:00"])
def test_the_night_of_american_shares_holds_for_the_process(monkeypatch, begins):
    evening = datetime(2026, 11, 24, 2, 30, tzinfo=timezone.utc)  # Monday 21:30 in New York
    assert load_settings().overnight_from is None
    assert session_at("AAPL", evening) is Session.CLOSED

    monkeypatch.setenv("TAPELINE_OVERNIGHT_FROM", begins)
    load_settings()
    assert session_at("AAPL", evening) is Session.OVERNIGHT

    monkeypatch.delenv("TAPELINE_OVERNIGHT_FROM")
    load_settings()
    assert session_at("AAPL", evening) is Session.CLOSED


@pytest.mark.parametrize("begins", ["19:55", "20:02", "20:00:30", "21:00Z", "evening"])
def test_a_night_that_begins_at_no_possible_time_is_refused(monkeypatch, begins):
    monkeypatch.setenv("TAPELINE_OVERNIGHT_FROM", begins)
    with pytest.raises(UsageError, match="TAPELINE_OVERNIGHT_FROM"):
        load_settings()


def test_names_with_two_underscores_reach_into_the_tree(monkeypatch):
    monkeypatch.setenv("TAPELINE_KAFKA__BOOTSTRAP_SERVERS", "a:1,b:2")
    monkeypatch.setenv("TAPELINE_KAFKA__PARTITIONS", "7")
    monkeypatch.setenv("TAPELINE_CASSANDRA__HOST", "db.example")
    monkeypatch.setenv("TAPELINE_STREAM__POLICY", "sip")
    monkeypatch.setenv("TAPELINE_FINNHUB__HEARTBEAT_TIMEOUT_S", "1.5")
    monkeypatch.setenv("TAPELINE_HOME", "/somewhere")
    monkeypatch.setenv("TAPELINE_LOG_LEVEL", "DEBUG")

    settings = load_settings()

    assert settings.kafka.bootstrap_servers == "a:1,b:2"
    assert settings.kafka.partitions == 7
    assert settings.cassandra.host == "db.example"
    assert settings.stream.policy is SIP
    assert settings.finnhub.heartbeat_timeout_s == 1.5
    assert settings.home == Path("/somewhere")
    assert settings.log_level == "DEBUG"


def test_one_field_set_leaves_its_neighbours_at_their_defaults(monkeypatch):
    monkeypatch.setenv("TAPELINE_KAFKA__TOPIC", "other")
    settings = load_settings()
    assert settings.kafka.topic == "other"
    assert settings.kafka.status_topic == "feed_status"


def test_a_file_of_settings_can_be_named_and_the_environment_goes_before_it(tmp_path, monkeypatch):
    file = tmp_path / "tapeline.env"
    file.write_text(
        "FINNHUB_API_KEY=from-file\nTAPELINE_KAFKA__TOPIC=from-file\nTAPELINE_LOG_LEVEL=ERROR\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("TAPELINE_ENV_FILE", str(file))
    monkeypatch.setenv("TAPELINE_KAFKA__TOPIC", "from-environment")

    settings = load_settings()

    assert settings.finnhub_api_key is not None
    assert settings.finnhub_api_key.get_secret_value() == "from-file"
    assert settings.log_level == "ERROR"
    assert settings.kafka.topic == "from-environment"


def test_a_file_of_settings_that_is_not_there_is_a_mistake(tmp_path, monkeypatch):
    monkeypatch.setenv("TAPELINE_ENV_FILE", str(tmp_path / "no.env"))
    with pytest.raises(UsageError, match=r"TAPELINE_ENV_FILE names .*no\.env, which is no file"):
        load_settings()


def test_an_empty_value_counts_as_not_set(monkeypatch):
    for name in (
        "TAPELINE_ENV_FILE",
        "FINNHUB_API_KEY",
        "TAPELINE_CASSANDRA__HOST",
        "TAPELINE_KAFKA__TOPIC",
        "TAPELINE_KAFKA__PARTITIONS",
    ):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert settings == Settings()
    assert settings.finnhub_api_key is None
    assert settings.kafka.topic == "trades_raw"


def test_the_key_is_read_under_finnhubs_own_name_and_never_shown(monkeypatch):
    monkeypatch.setenv("FINNHUB_API_KEY", "c9secret")

    settings = load_settings()

    assert settings.finnhub_api_key is not None
    assert settings.finnhub_api_key.get_secret_value() == "c9secret"
    for shown in (repr(settings), str(settings), settings.model_dump_json(), f"{settings!r}"):
        assert "c9secret" not in shown


def test_settings_cannot_be_changed():
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.log_level = "DEBUG"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.kafka.topic = "other"  # type: ignore[misc]


NO_NUMBER = "should be a finite number"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KAFKA__PARTITIONS", "0", "is '0': input should be greater than or equal to 1"),
        ("KAFKA__PARTITIONS", "many", "is 'many': input should be a valid integer"),
        ("KAFKA__PARTITIONS", "99999999999999999999", "less than or equal to 10000"),
        ("KAFKA__REPLICATION_FACTOR", "1e3", "valid integer"),
        ("KAFKA__RETENTION_HOURS", "-1", "greater than or equal to 1"),
        ("KAFKA__RETENTION_HOURS", "999999999999", "less than or equal to 175200"),
        ("KAFKA", "trades_raw", "name one setting, as TAPELINE_KAFKA__TOPIC"),
        ("KAFKA__TOPIC", "trades raw", "'trades raw' is not a valid topic name"),
        ("KAFKA__STATUS_TOPIC", "..", "is not a valid topic name"),
        ("KAFKA__BOOTSTRAP_SERVERS", "broker", "'broker' is not a valid address: give host:port"),
        ("KAFKA__BOOTSTRAP_SERVERS", "a:1,b:99999", "'b:99999' is not a valid address"),
        ("KAFKA__BOOTSTRAP_SERVERS", "a..b:9092", "'a..b:9092' is not a valid address"),
        ("KAFKA__BOOTSTRAP_SERVERS", "a:1;b:2", "is not a valid address"),
        ("CASSANDRA__PORT", "65536", "less than or equal to 65535"),
        ("CASSANDRA__PORT", "0", "greater than or equal to 1"),
        ("CASSANDRA__HOST", "db:9042", "the port goes into TAPELINE_CASSANDRA__PORT"),
        ("CASSANDRA__HOST", "db..example", "is not a valid host"),
        ("CASSANDRA__HOST", "a,,b", "give one name or address"),
        ("CASSANDRA__HOST", "a,db:9042", "'db:9042' is not a valid host: the port goes"),
        ("CASSANDRA__KEYSPACE", "Market-Data", "'Market-Data' is not a valid keyspace name"),
        ("CASSANDRA__GOLD_TTL_S", "-1", "greater than or equal to 0"),
        ("CASSANDRA__GOLD_TTL_S", "630720001", "less than or equal to 630720000"),
        ("CASSANDRA__REQUEST_TIMEOUT_S", "nan", NO_NUMBER),
        ("FINNHUB__HEARTBEAT_TIMEOUT_S", "0", "greater than 0"),
        ("FINNHUB__HEARTBEAT_TIMEOUT_S", "inf", NO_NUMBER),
        ("FINNHUB__IDLE_TIMEOUT_S", "1e300", "less than or equal to 630720000"),
        ("FINNHUB__REDELIVERY_MEMORY_S", "NaN", NO_NUMBER),
        ("FINNHUB__URL", "https://ws.finnhub.io", "is not a valid WebSocket address"),
        ("FINNHUB__URL", "wss://ws.finnhub.io?token=c9secret", "without the token"),
        ("FINNHUB__URL", "ws://localhost:99999", "is not a valid WebSocket address"),
        ("FINNHUB__URL", "wss://ws..finnhub.io", "is not a valid WebSocket address"),
        ("FEEDS__KRAKEN_HISTORY", "https://api..kraken.com", "is not a valid address"),
        ("WATCH__WEBHOOK", "https://alerts..example/x", "is not a valid address"),
        ("METRICS__PRODUCER_PORT", "-1", "greater than or equal to 0"),
        ("METRICS__STREAM_PORT", "65536", "less than or equal to 65535"),
        ("METRICS__HOST", "http://0.0.0.0", "is not a valid host"),
        ("SPOOL__MAX_MB", "1", "greater than or equal to 64"),
        ("SPOOL__GROUP_MS", "5000", "less than or equal to 1000"),
        ("STREAM__POLICY", "none", "'none' is no policy: give sip, sip+oddlot, all or a file"),
        ("STREAM__MASTER", "spark:7077", "is not a valid Spark master"),
        ("STREAM__DRIVER_MEMORY", "512", "is not a valid size: give one such as 512m"),
        ("STREAM__POISON_SHARE", "1.5", "less than or equal to 1"),
        ("STREAM__POISON_SHARE", "nan", NO_NUMBER),
        ("STREAM__WATERMARK_S", "1e99", "valid integer"),
        ("STREAM__STORE_1M", "perhaps", "valid boolean"),
        ("API__CORS_ORIGINS", "https://charts.example/", "is not a valid origin"),
        ("API__CORS_ORIGINS", "charts.example", "is not a valid origin"),
        ("API__PROXIES", "proxy.example", "is not a valid address or network: give one such as"),
        ("API__PROXIES", "10.0.0.1/24", "is not a valid address or network"),
        ("API__PROXIES", "*", "is not a valid address or network"),
        ("API__REQUEST_RATE", "-1", "greater than or equal to 0"),
        ("API__REQUEST_RATE", "inf", NO_NUMBER),
        ("API__BURST", "0", "greater than or equal to 1"),
        ("API__STREAMS_PER_CLIENT", "501", "less than or equal to 500"),
        ("PROFILE", "large", "input should be 'small' or 'standard'"),
        ("LOG_LEVEL", "LOUD", "input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("HOME", "$HOME/tapeline", "names a variable"),
        ("HOME", "/a:b", "which Java's options cannot"),
        ("HOME", '/a"b', "which Java's options cannot"),
        ("HOME", "~no-such-user/x", "names no user of this machine"),
        ("HOME", __file__, "is a file: name a folder"),
        ("HOME", f"{__file__}/below", "is a file: name a folder"),
    ],
)
def test_a_wrong_value_is_named_by_its_variable(monkeypatch, name, value, said):
    monkeypatch.setenv(f"TAPELINE_{name}", value)
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert f"TAPELINE_{name}" in str(caught.value)
    assert said in str(caught.value)
    assert "c9secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["two words", '"quoted"', "schlüssel", "a\nb"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(monkeypatch, value):
    monkeypatch.setenv("FINNHUB_API_KEY", value)
    with pytest.raises(UsageError, match=r"^FINNHUB_API_KEY: a key has no blanks") as caught:
        load_settings()
    assert value not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("TAPELINE_KAFKA_BOOTSTRAP_SERVERS", "TAPELINE_KAFKA__BOOTSTRAP_SERVERS"),
        ("TAPELINE_CASSANDRA_HOST", "TAPELINE_CASSANDRA__HOST"),
        ("TAPELINE_CASANDRA__HOST", "TAPELINE_CASSANDRA__HOST"),
        ("TAPELINE_FINNHUB_API_KEY", "FINNHUB_API_KEY"),
        ("TAPELINE_KAFKA__TOPICS", "TAPELINE_KAFKA__TOPIC"),
        ("TAPELINE_LOGLEVEL", "TAPELINE_LOG_LEVEL"),
        ("tapeline_profil", "TAPELINE_PROFILE"),
    ],
)
def test_a_variable_that_is_no_setting_is_answered_with_the_one_that_is(
    monkeypatch, tmp_path, wrong, right
):
    said = f"There is no setting {wrong.upper()}: do you mean {right}"
    with monkeypatch.context() as environment:
        environment.setenv(wrong, "x")
        with pytest.raises(UsageError, match=said):
            load_settings()
    file = tmp_path / "tapeline.env"
    file.write_text(f"{wrong}=x\n", encoding="utf-8")
    monkeypatch.setenv("TAPELINE_ENV_FILE", str(file))
    with pytest.raises(UsageError, match=said):
        load_settings()


def test_a_variable_of_a_part_that_has_no_such_setting_is_named(monkeypatch):
    monkeypatch.setenv("TAPELINE_KAFKA__COMPRESSION", "x")
    with pytest.raises(UsageError, match="There is no setting TAPELINE_KAFKA__COMPRESSION: `tape"):
        load_settings()


def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_none_of_ours(monkeypatch):
    for name in ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_8700_TCP", "PORT_8700_TCP_ADDR"):
        monkeypatch.setenv(f"TAPELINE_{name}", "tcp://10.0.0.1:8700")
    for name, value in {
        "PORT": "tcp://10.0.0.1:9042",
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "9042",
        "SERVICE_PORT_CQL": "9042",
        "PORT_9042_TCP": "tcp://10.0.0.1:9042",
        "PORT_9042_TCP_PROTO": "tcp",
        "PORT_9042_TCP_PORT": "9042",
        "PORT_9042_TCP_ADDR": "10.0.0.1",
    }.items():
        for service in ("KAFKA", "CASSANDRA", "METRICS", "API", "STREAM"):
            monkeypatch.setenv(f"TAPELINE_{service}_{name}", value)
    assert load_settings() == Settings()


def test_blanks_around_a_value_are_no_part_of_it(monkeypatch):
    monkeypatch.setenv("FINNHUB_API_KEY", " c9secret ")
    monkeypatch.setenv("TAPELINE_KAFKA__TOPIC", " other ")
    monkeypatch.setenv("TAPELINE_KAFKA__BOOTSTRAP_SERVERS", "a:1, [::1]:2")
    settings = load_settings()
    assert settings.finnhub_api_key is not None
    assert settings.finnhub_api_key.get_secret_value() == "c9secret"
    assert settings.kafka.topic == "other"
    assert settings.kafka.bootstrap_servers == "a:1,[::1]:2"


@pytest.mark.parametrize("in_file", [True, False])
def test_a_tilde_is_the_users_own_folder(monkeypatch, tmp_path, in_file):
    monkeypatch.setenv("HOME", str(tmp_path))
    if in_file:
        file = tmp_path / "tapeline.env"
        file.write_text("TAPELINE_HOME=~/x\n", encoding="utf-8")
        monkeypatch.setenv("TAPELINE_ENV_FILE", "~/tapeline.env")
    else:
        monkeypatch.setenv("TAPELINE_HOME", "~/x")
    assert load_settings().home == tmp_path / "x"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STREAM__MASTER", "local[*]"),
        ("STREAM__MASTER", "spark://spark-master:7077"),
        ("STREAM__MASTER", "yarn"),
        ("STREAM__DRIVER_MEMORY", "2g"),
        ("API__CORS_ORIGINS", "https://charts.example, http://localhost:3000"),
        ("API__CORS_ORIGINS", "*"),
        ("FINNHUB__URL", "ws://127.0.0.1:18765"),
        ("CASSANDRA__HOST", "::1"),
        ("KAFKA__BOOTSTRAP_SERVERS", "PLAINTEXT://kafka:29092"),
    ],
)
def test_what_is_valid_is_taken_as_it_is(monkeypatch, name, value):
    monkeypatch.setenv(f"TAPELINE_{name}", value)
    branch, field = name.lower().split("__")
    assert getattr(getattr(load_settings(), branch), field) == value


def test_another_target_changes_topic_and_keyspace_only():
    settings = load_settings()
    changed = settings.with_target(topic="t", keyspace="k")
    assert (changed.kafka.topic, changed.cassandra.keyspace) == ("t", "k")
    assert changed.with_target(topic="trades_raw", keyspace="market_data") == settings


def test_no_target_changes_nothing():
    settings = load_settings()
    assert settings.with_target() == settings


def test_a_target_leaves_the_first_settings_as_they_were():
    settings = load_settings()
    settings.with_target(topic="t", keyspace="k")
    assert (settings.kafka.topic, settings.cassandra.keyspace) == ("trades_raw", "market_data")


def test_every_field_says_what_it_is():
    undocumented = [
        f"{model.__name__}.{name}"
        for model in _models(Settings)
        for name, field in model.model_fields.items()
        if name not in _documented_names(model) and not _is_tree(field.annotation)
    ]
    assert undocumented == []


def _models(model):
    yield model
    for field in model.model_fields.values():
        if _is_tree(field.annotation):
            yield from _models(field.annotation)


def _is_tree(annotation):
    return isinstance(annotation, type) and hasattr(annotation, "model_fields")


def _documented_names(model):
    """Names that are followed by a string of their own in the source."""
    (body,) = (n.body for n in ast.parse(inspect.getsource(model)).body)
    return {
        a.target.id
        for a, b in pairwise(body)
        if isinstance(a, ast.AnnAssign)
        and isinstance(a.target, ast.Name)
        and isinstance(b, ast.Expr)
        and isinstance(b.value, ast.Constant)
    }


def test_parts_of_the_settings_can_be_made_by_hand():
    assert FinnhubSettings(url="ws://x").url == "ws://x"
    with pytest.raises(ValidationError):
        FinnhubSettings(uri="ws://x")  # type: ignore[call-arg]
