"""The two profiles, and what chooses one."""

from __future__ import annotations

import re

import pytest

from tapeline.consumer.spark_jvm import java_options
from tapeline.local.class_archive import ArchiveUse
from tapeline.program.profile import Profile
from tapeline.program.settings import load_settings

MB = {"m": 1, "g": 1024}


def megabytes(size):
    number, unit = re.fullmatch(r"(\d+)([mg])", size).groups()
    return int(number) * MB[unit]


@pytest.mark.parametrize("profile", Profile)
def test_the_heaps_fit_into_what_must_be_free(profile):
    sizes = profile.sizes
    heaps = [megabytes(s.heap) for s in (sizes.kafka, sizes.cassandra, sizes.spark)]
    # Outside their heaps the three took some 750 MB together, and five processes of Python 350.
    assert sum(heaps) + 1100 <= sizes.needed_memory_mb


def test_standard_is_used_unless_another_is_set(monkeypatch):
    monkeypatch.delenv("TAPELINE_PROFILE", raising=False)
    assert load_settings().profile is Profile.STANDARD
    monkeypatch.setenv("TAPELINE_PROFILE", "small")
    assert load_settings().profile is Profile.SMALL
    assert load_settings().with_target(profile=Profile.STANDARD).profile is Profile.STANDARD


def test_a_jvm_gets_its_heap_and_its_options():
    assert Profile.SMALL.sizes.kafka.arguments[:2] == ["-Xms64m", "-Xmx160m"]
    assert "-XX:+UseSerialGC" in Profile.SMALL.sizes.kafka.arguments
    assert Profile.STANDARD.sizes.cassandra.arguments[:2] == ["-Xms1g", "-Xmx1g"]


def test_spark_takes_options_with_spaces_in_them():
    archive = ArchiveUse(("-XX:SharedArchiveFile=/a b/spark.jsa",))
    text = java_options(Profile.SMALL.sizes.spark, archive)
    assert text.endswith('"-XX:SharedArchiveFile=/a b/spark.jsa"')
    assert "-Xmx" not in text  # Spark refuses it here
