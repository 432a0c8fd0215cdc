"""The settings, the file that holds some of them, and the feed's key, which is never shown."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tapeline.model.errors import UsageError
from tapeline.producer.key_lock import is_connected
from tapeline.program.setting_errors import variables_of
from tapeline.program.settings import (
    API_KEY_VARIABLE,
    ENV_DELIMITER,
    ENV_FILE_VARIABLE,
    ENV_PREFIX,
    Settings,
)
from tapeline.status.doctor.finding import Finding

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def refused_settings(error: UsageError) -> list[Finding]:
    """Return the finding on settings that cannot be used."""
    return [
        Finding.fail("settings", error),
        Finding.not_checked("all that depends on settings", "Mend them first."),
    ]


def check_settings() -> Iterator[Finding]:
    """Say which settings the environment gives, once they were read and are valid."""
    known = variables_of(Settings.model_fields, ENV_PREFIX, ENV_DELIMITER)
    given = sorted(name for name in known if os.environ.get(name))
    where = f"the environment sets {', '.join(given)}" if given else "the environment sets none"
    yield Finding.ok("settings", f"All are valid; {where}.")
    yield _env_file()


def check_key(settings: Settings) -> Iterator[Finding]:
    """Check whether the feed's key is there, and whether a producer is connected with it."""
    token = settings.finnhub_api_key
    if token is None:
        text = f"{API_KEY_VARIABLE} is not set: `tapeline produce` needs a free one of finnhub.io."
        yield Finding.warn("key of the feed", f"{text} The demo needs none.")
        yield Finding.not_checked("other producer", "There is no key that it could use.")
        return
    yield Finding.ok("key of the feed", f"{API_KEY_VARIABLE} is set.")
    try:
        is_used = is_connected(settings.home, settings.finnhub.url, token)
    except OSError as error:
        text = f"The locks of {settings.home} cannot be read ({error.strerror}): whose are they?"
        yield Finding.fail("other producer", text)
        return
    if is_used:
        text = "One is connected with this key: stop it before you start another."
        yield Finding.warn("other producer", text)
    else:
        yield Finding.ok("other producer", "None of this home is connected with this key.")


def _env_file() -> Finding:
    name = os.environ.get(ENV_FILE_VARIABLE)
    if not name:
        return Finding.ok("env file", f"{ENV_FILE_VARIABLE} is not set: there is none.")
    file = Path(name).expanduser()
    text = file.read_text(encoding="utf-8", errors="replace")
    holds_key = any(
        line.strip().removeprefix("export ").upper().startswith(f"{API_KEY_VARIABLE}=")
        for line in text.splitlines()
    )
    if holds_key and file.stat().st_mode & _OTHERS:
        return Finding.warn("env file", f"Others may read the key in {file}: chmod 600 {file}.")
    return Finding.ok("env file", f"{file} is read.")
