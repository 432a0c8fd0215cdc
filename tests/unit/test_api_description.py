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


def test_every_request_says_how_it_may_fail():
    paths = create_app(load_settings()).openapi()["paths"]
    asked = {
        f"{method} {path}": item[method]["responses"]
        for path, item in paths.items()
        for method in item
        if "/v1/" in path
    }
    assert len(asked) == 10
    for name, answers in asked.items():
        assert "application/problem+json" in answers["503"]["content"], name
