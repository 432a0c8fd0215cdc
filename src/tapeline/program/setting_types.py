"""What a setting may hold beyond its type: names, addresses, folders, lengths of time.

Each check raises ValueError with a sentence; `setting_errors.py` adds the variable's name.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, Field, HttpUrl, SecretStr, WebsocketUrl

from tapeline.model.names import keyspace_name, topic_name
from tapeline.program.tls import check_authorities

_Url = TypeVar("_Url", HttpUrl, WebsocketUrl)

LONGEST_S: Final = 20 * 365 * 86_400
"""Cassandra's longest lifetime of a row; no setting is of a longer time."""
LAST_PORT: Final = 65_535

_MASTER: Final = re.compile(
    r"local(\[(\d+|\*)(,\s*\d+)?\])?|local-cluster\[.+\]|spark://[^\s,:]+:\d+(,[^\s,:]+:\d+)*"
    r"|yarn|k8s://\S+"
)
_NO_JAVA: Final = frozenset({os.pathsep, '"', "\\"})
_MEMORY: Final = re.compile(r"[1-9]\d{0,8}[kKmMgGtT]")
_ORIGIN: Final = re.compile(r"\*|https?://[^\s/?#@]+")
_SERVER: Final = re.compile(r"(?:[A-Za-z_]+://)?(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):(\d{1,5})")


def folder_path(path: Path) -> Path:
    """Return the absolute path of a folder, `~` being the user's own.

    Raises:
        ValueError: it names a variable or another user that is unknown, holds what a class path
            cannot, or is a file.
    """
    text = str(path)
    if "$" in text:
        message = f"{text!r} names a variable, which nobody fills in: write the folder itself."
        raise ValueError(message)
    if set(text) & _NO_JAVA or not text.isprintable():
        message = (
            f"{text!r} holds {os.pathsep}, \", \\ or a control character, which Java's options "
            "cannot: choose another folder."
        )
        raise ValueError(message)
    try:
        expanded = path.expanduser().absolute()
    except RuntimeError as error:
        message = f"{text!r} names no user of this machine: write the folder itself."
        raise ValueError(message) from error
    for part in (expanded, *expanded.parents):
        # Unlike pathlib, this says no where a folder may not be looked into.
        if os.path.exists(part) and not os.path.isdir(part):  # noqa: PTH110, PTH112
            message = f"{part} is a file: name a folder."
            raise ValueError(message)
    return expanded


def can_be_looked_up(host: str) -> bool:
    """Return whether a host's name is one: each part of it is of 1 to 63 characters (RFC 1035).

    Of another one every connection fails with an error that is none of the network.
    """
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


def _host(text: str) -> str:
    if re.search(r"[\s/,]", text) or not can_be_looked_up(text):
        message = f"{text!r} is not a valid host: give one name or address."
        raise ValueError(message)
    return text


def _contact_points(text: str) -> str:
    hosts = [host.strip() for host in text.split(",")]
    for host in hosts:
        if host.count(":") == 1:
            message = f"{host!r} is not a valid host: the port goes into TAPELINE_CASSANDRA__PORT."
            raise ValueError(message)
        _host(host)
    return ",".join(hosts)


def _servers(text: str) -> str:
    servers = [server.strip() for server in text.split(",")]
    for server in servers:
        found = _SERVER.fullmatch(server)
        is_one = found is not None and can_be_looked_up(found[1])
        if found is None or not is_one or not 0 < int(found[2]) <= LAST_PORT:
            message = f"{server!r} is not a valid address: give host:port, with commas between."
            raise ValueError(message)
    return ",".join(servers)


def _http_url(text: str, example: str) -> HttpUrl:
    try:
        return _with_host(HttpUrl(text))
    except ValueError:
        message = f"it is not a valid address: give one such as {example}."
        raise ValueError(message) from None


def _with_host(url: _Url) -> _Url:
    if not can_be_looked_up(url.host or ""):
        message = "its host has no valid name."
        raise ValueError(message)
    return url


def _feed_url(text: str) -> str:
    try:
        url = _with_host(WebsocketUrl(text))
    except ValueError:
        message = "it is not a valid WebSocket address: give one such as wss://ws.finnhub.io."
        raise ValueError(message) from None
    if url.query is not None or url.fragment is not None or url.username is not None:
        message = "give the address without the token, which goes into FINNHUB_API_KEY."
        raise ValueError(message)
    return text


def _history_url(text: str) -> str:
    if text in {"", "none"}:
        return ""
    url = _http_url(text, "https://api.example, or none")
    if url.username is not None or url.query is not None or url.fragment is not None:
        message = "give scheme and host alone."
        raise ValueError(message)
    return text


def _token_url(text: str) -> str:
    url = _http_url(text, "https://login.example/oauth2/token")
    if url.username is not None or url.fragment is not None:
        message = "give the address without a secret, which goes into TAPELINE_KAFKA__PASSWORD."
        raise ValueError(message)
    return text


def _key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value().strip()
    if not text.isascii() or not text.isprintable() or set(text) & set(" \"'"):
        message = "a key has no blanks, quotes or special characters: copy it once more."
        raise ValueError(message)
    return SecretStr(text)


def _master(text: str) -> str:
    if not _MASTER.fullmatch(text):
        message = f"{text!r} is not a valid Spark master: give local[2] or spark://host:7077."
        raise ValueError(message)
    return text


def _memory(text: str) -> str:
    if not _MEMORY.fullmatch(text):
        message = f"{text!r} is not a valid size: give one such as 512m or 2g."
        raise ValueError(message)
    return text


def _origins(text: str) -> str:
    for origin in filter(None, map(str.strip, text.split(","))):
        if not _ORIGIN.fullmatch(origin):
            message = (
                f"{origin!r} is not a valid origin: give scheme and host and nothing after, as "
                "https://charts.example, or *."
            )
            raise ValueError(message)
    return text


def _networks(text: str) -> str:
    networks = [network.strip() for network in text.split(",") if network.strip()]
    for network in networks:
        try:
            ip_network(network)
        except ValueError:
            message = (
                f"{network!r} is not a valid address or network: give one such as 10.0.0.7 or "
                "10.0.0.0/24, with commas between."
            )
            raise ValueError(message) from None
    return ",".join(networks)


def _file(path: Path) -> Path:
    try:
        file = path.expanduser().absolute()
        with file.open("rb"):
            return file
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"{str(path)!r} cannot be read ({reason}): name a PEM file."
        raise ValueError(message) from error


def _certificates(path: Path) -> Path:
    check_authorities(path)
    return path


def _login(text: str) -> str:
    if not text.isprintable():
        message = "a name has no control characters."
        raise ValueError(message)
    return text


def _password(password: SecretStr) -> SecretStr:
    text = password.get_secret_value()
    if not text or not text.isprintable():
        message = "a password is not empty and has no control characters: copy it once more."
        raise ValueError(message)
    return password


Folder = Annotated[Path, AfterValidator(folder_path)]
TokenUrl = Annotated[str, AfterValidator(_token_url)]
Key = Annotated[SecretStr, AfterValidator(_key)]
Keyspace = Annotated[str, AfterValidator(keyspace_name)]
Topic = Annotated[str, AfterValidator(topic_name)]
Host = Annotated[str, AfterValidator(_host)]
ContactPoints = Annotated[str, AfterValidator(_contact_points)]
Servers = Annotated[str, AfterValidator(_servers)]
FeedUrl = Annotated[str, AfterValidator(_feed_url)]
HistoryUrl = Annotated[str, AfterValidator(_history_url)]
Master = Annotated[str, AfterValidator(_master)]
Memory = Annotated[str, AfterValidator(_memory)]
Origins = Annotated[str, AfterValidator(_origins)]
Networks = Annotated[str, AfterValidator(_networks)]
File = Annotated[Path, AfterValidator(_file)]
Certificates = Annotated[Path, AfterValidator(_file), AfterValidator(_certificates)]
Login = Annotated[str, AfterValidator(_login)]
Password = Annotated[SecretStr, AfterValidator(_password)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_S)]
Lifetime = Annotated[int, Field(ge=0, le=LONGEST_S)]
