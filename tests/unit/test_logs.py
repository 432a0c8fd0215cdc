"""Structured logs on standard error."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError

from tapeline.model.errors import UsageError
from tapeline.program.logs import configure_logging
from tapeline.program.settings import LogLevel, load_settings


@pytest.fixture(autouse=True)
def _restore_logging():
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_an_event_is_one_line_of_key_values_on_standard_error(capsys):
    configure_logging(load_settings())

    structlog.get_logger().info("finalized", bars=3, symbol="IC MARKETS:1", is_final=True)

    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    stamp, rest = line.split(" ", 1)
    assert stamp.startswith("timestamp=2")
    assert stamp.endswith("Z")
    assert rest == 'level=info event=finalized bars=3 symbol="IC MARKETS:1" is_final=true'


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        (LogLevel.DEBUG, ["d", "i", "w", "e"]),
        (LogLevel.INFO, ["i", "w", "e"]),
        (LogLevel.WARNING, ["w", "e"]),
        (LogLevel.ERROR, ["e"]),
    ],
)
def test_only_events_of_the_level_and_above_are_written(capsys, level, seen):
    configure_logging(load_settings(), level)
    log = structlog.get_logger()

    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")

    events = [line.split("event=")[1] for line in capsys.readouterr().err.splitlines()]
    assert events == seen


def test_an_exception_is_written_with_its_traceback(capsys):
    configure_logging(load_settings())
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        structlog.get_logger().exception("failed")
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_a_level_that_is_none_is_a_mistake_of_the_user(monkeypatch):
    monkeypatch.setenv("TAPELINE_LOG_LEVEL", "LOUD")
    with pytest.raises((UsageError, ValidationError)):
        configure_logging(load_settings())


def test_debug_of_our_own_keeps_the_websocket_librarys_log_of_the_token_off():
    logging.root.handlers[:] = []
    configure_logging(load_settings(), LogLevel.DEBUG)
    assert not logging.getLogger("websockets.client").isEnabledFor(logging.DEBUG)


def test_json_is_an_object_a_line_also_of_what_libraries_warn_of(capsys, monkeypatch):
    logging.root.handlers[:] = []
    monkeypatch.setenv("TAPELINE_LOG_FORMAT", "json")
    configure_logging(load_settings())

    structlog.get_logger().info("finalized", bars=3, symbol="IC MARKETS:1", at=1.5)
    logging.getLogger("a.library").warning("half of %s\nis lost", "it")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        structlog.get_logger().exception("failed", path=Path("x"))

    ours, of_library, failed = map(json.loads, capsys.readouterr().err.splitlines())
    assert list(ours) == ["timestamp", "level", "event", "bars", "symbol", "at"]
    assert ours.pop("timestamp").endswith("Z")
    expected = {
        "level": "info",
        "event": "finalized",
        "bars": 3,
        "symbol": "IC MARKETS:1",
        "at": 1.5,
    }
    assert ours == expected
    assert (of_library["level"], of_library["event"]) == ("warning", "half of it\nis lost")
    assert "division by zero" in failed["exception"]
    assert "x" in failed["path"]


class Unshowable:
    def __repr__(self) -> str:
        message = "no"
        raise ValueError(message)


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("AAPL\ud83d", "AAPL\ud83d"),
        (2**64, 18_446_744_073_709_551_616),
        ({0: {(1, 2): 3}}, {"0": {"(1, 2)": 3}}),
        ([-(2**80), float("nan"), 0.5, True, None], [-(2**80), None, 0.5, True, None]),
        ({"\ud800": Path("x")}, {"\ud800": repr(Path("x"))}),
    ],
)
def test_what_json_cannot_say_is_logged_all_the_same(capsys, monkeypatch, value, shown):
    monkeypatch.setenv("TAPELINE_LOG_FORMAT", "json")
    configure_logging(load_settings())

    structlog.get_logger().warning("refused", value=value, symbol="MSFT")

    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert list(line) == ["timestamp", "level", "event", "value", "symbol"]
    assert (line["event"], line["value"], line["symbol"]) == ("refused", shown, "MSFT")


@pytest.mark.parametrize(
    "value",
    [Unshowable(), [2**64, Unshowable()], CIRCLE, 10**5000],
    ids=["no repr", "no repr within", "itself", "5,001 digits"],
)
def test_no_value_costs_a_line_of_json(capsys, monkeypatch, value):
    monkeypatch.setenv("TAPELINE_LOG_FORMAT", "json")
    configure_logging(load_settings())

    structlog.get_logger().warning("refused", value=value)

    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert line["event"] == "refused"
    assert line["value"]
