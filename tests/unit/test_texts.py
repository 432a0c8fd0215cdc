"""Counts in sentences for people."""

from __future__ import annotations

import pytest

from tapeline.model.texts import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1_200, "1,200 files")]
)
def test_one_thing_has_no_plural(number, text):
    assert counted(number, "file") == text


def test_more_than_a_noun_may_follow_the_number():
    assert counted(1, "message has", "messages have") == "1 message has"
    assert counted(2, "message has", "messages have") == "2 messages have"
