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
    with pytest.raises(ValidationError, match="overnight_from"):
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


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("TAPELINE_KAFKA__PARTITIONS", "0", ("kafka", "partitions")),
        ("TAPELINE_KAFKA__PARTITIONS", "many", ("kafka", "partitions")),
        ("TAPELINE_CASSANDRA__PORT", "65536", ("cassandra", "port")),
        ("TAPELINE_CASSANDRA__GOLD_TTL_S", "-1", ("cassandra", "gold_ttl_s")),
        ("TAPELINE_FINNHUB__HEARTBEAT_TIMEOUT_S", "0", ("finnhub", "heartbeat_timeout_s")),
        ("TAPELINE_STREAM__POLICY", "none", ("stream", "policy")),
        ("TAPELINE_KAFKA__TOPICS", "typo", ("kafka", "topics")),
    ],
)
def test_a_wrong_value_is_named_by_its_field(monkeypatch, name, value, field):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        load_settings()
    assert [error["loc"] for error in caught.value.errors()] == [field]


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
