"""The real parts, once for all tests: a home of their own, Kafka, Cassandra and Spark."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings
from pyspark.sql import SparkSession
from rich.console import Console

from tapeline.consumer.session import build_session
from tapeline.local.discovery import Endpoints, find_endpoints
from tapeline.local.home import Home
from tapeline.local.jars import ALL_JARS, fetch_jars
from tapeline.local.java import find_java
from tapeline.local.lock import held
from tapeline.local.stack import LocalStack
from tapeline.program.profile import Profile
from tapeline.program.settings import load_settings

from .commands import TIMEOUT_S
from .pipeline import Pipeline

_UNIT = Path(__file__).parent / "unit"
# A JVM of the tests ends before its second compiler would pay, or a check of its jars.
_SHORT_LIVED = (
    "-XX:TieredStopAtLevel=1 -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
)

# How long an example takes says nothing of whether it is right.
settings.register_profile("tapeline", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=20)
settings.load_profile("tapeline")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts Java, so that `make unit` can leave it out."""
    for item in items:
        is_unit = item.path.is_relative_to(_UNIT)
        if not is_unit or not {"spark", "stack"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("jvm")


@pytest.fixture(scope="session", autouse=True)
def home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """A home for the tests alone; only the jars are those of the user's home."""
    jars = Home(load_settings().home).jars
    if any(item.get_closest_marker("jvm") for item in request.session.items):
        fetch_jars(jars, ALL_JARS, find_java(), Console())
    root = tmp_path_factory.mktemp("Jürgen's home, of tests")
    jars.mkdir(parents=True, exist_ok=True)
    (root / "jars").symlink_to(jars.resolve())
    before = dict(os.environ)
    os.environ["TAPELINE_HOME"] = str(root)
    for name in before:
        if name.startswith("TAPELINE_") and name not in {"TAPELINE_HOME", "TAPELINE_TAPES"}:
            del os.environ[name]
    os.environ.setdefault("JDK_JAVA_OPTIONS", _SHORT_LIVED)
    yield Home(root)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def turn() -> Callable[[], AbstractContextManager[None]]:
    """Choose ports one stack at a time, in whichever run of pytest.

    Two stacks that start at once may find the same port free, and a service that is down for a
    moment may find its own taken.
    """
    lock = Path(tempfile.gettempdir()) / f"tapeline-tests-{os.getuid()}.lock"
    return partial(held, lock, "Another run of the tests does not let go.", TIMEOUT_S)


@pytest.fixture(scope="session")
def stack(home: Home, turn: Callable[[], AbstractContextManager[None]]) -> Iterator[Endpoints]:
    """A running Kafka and Cassandra; each process of the tests has its own."""
    local = LocalStack(home, Console(), Profile.SMALL)
    with turn():
        local.up(keep=True)
    yield find_endpoints(load_settings())
    local.down()


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One Spark for all tests; it needs neither Kafka nor Cassandra."""
    session = build_session(load_settings(), find_endpoints(load_settings()))
    yield session
    session.stop()


@pytest.fixture
def pipeline(stack: Endpoints, spark: SparkSession, tmp_path: Path) -> Iterator[Pipeline]:
    """A topic and a keyspace of this test alone, with the product's parts around them."""
    with Pipeline.create(spark, stack, f"t{uuid.uuid4().hex[:12]}", tmp_path) as parts:
        yield parts
