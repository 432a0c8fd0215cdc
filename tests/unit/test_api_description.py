"""The description at /openapi.json is whole: what it refers to is there."""

from __future__ import annotations

import re

import orjson

from tapeline.api.app import create_app
from tapeline.program.settings import load_settings


def test_every_form_that_is_referred_to_is_described():
    description = create_app(load_settings()).openapi()
    named = set(re.findall(r"#/components/schemas/(\w+)", orjson.dumps(description).decode()))
    assert named <= description["components"]["schemas"].keys()
    assert "ProblemOut" in named


def test_every_read_says_how_it_may_fail():
    paths = create_app(load_settings()).openapi()["paths"]
    reads = {path: item["get"]["responses"] for path, item in paths.items() if "/v1/" in path}
    assert len(reads) == 8
    for path, answers in reads.items():
        assert "application/problem+json" in answers["503"]["content"], path
