"""Who may change symbols over the API: asked before anything else is done."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.served import keys_in, serving_with

ANNA = "2b7e151628aed2a6abf7158809cf4f3c"
BERTA = "b12a6cd9f00b4c2d9b0c7e55a1d3e8f2"


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return keys_in(tmp_path, anna=ANNA, berta=BERTA)


def refusal(client: httpx.Client, method: str = "PUT", **headers: str) -> str | None:
    """Return why a change is refused, None where it is not."""
    # A name that no feed has, so that nothing is sent.
    answer = client.request(method, "/v1/symbols/A;B", headers=headers)
    if answer.status_code == 403:
        return str(answer.json()["detail"])
    assert answer.status_code == 422, answer.text
    assert "is not a valid symbol" in answer.json()["detail"]
    return None


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_nobody_may_change_symbols_where_it_is_not_said_who(method: str) -> None:
    with serving_with() as client:
        assert "set TAPELINE_API__SYMBOL_CHANGES to local" in (refusal(client, method) or "")


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("127.0.0.1:8700", True),
        ("localhost", True),
        ("[::1]:8700", True),
        ("evil.example:8700", False),
        ("192.168.1.7:8700", False),
        ("127.0.0.1.evil.example", False),
        ("[", False),
    ],
)
def test_locally_a_page_whose_name_leads_here_by_a_trick_may_not(host: str, *, may: bool) -> None:
    with serving_with(symbol_changes="local") as client:
        refused = refusal(client, Host=host)
        assert (refused is None) is may
        assert may or "from this machine alone" in str(refused)


def test_with_keys_only_those_that_are_named_may(keys_file: Path) -> None:
    with serving_with(keys_file=keys_file, symbol_changes="berta, carl") as client:
        assert client.put("/v1/symbols/A;B").status_code == 401
        assert "This key may not" in (refusal(client, **{"X-API-Key": ANNA}) or "")
        assert refusal(client, **{"X-API-Key": BERTA}) is None
        headers = {"X-API-Key": BERTA}
        session = client.post("/v1/session", headers=headers).cookies["tapeline_market_data"]
        assert refusal(client, Cookie=f"tapeline_market_data={session}") is None
    with serving_with(keys_file=keys_file, symbol_changes="local") as client:
        assert "This key may not" in (refusal(client, **{"X-API-Key": ANNA}) or "")


def test_a_page_of_another_site_is_not_let_ask() -> None:
    """A browser asks first whether it may PUT; no origin ever gets that."""
    asked = {"Origin": "https://charts.example", "Access-Control-Request-Method": "PUT"}
    for origins in ("", "https://charts.example"):
        with serving_with(symbol_changes="local", cors_origins=origins) as client:
            answer = client.options("/v1/symbols/AAPL", headers=asked)
            assert answer.status_code in {400, 405}
            assert "PUT" not in answer.headers.get("access-control-allow-methods", "")


def test_a_parameter_that_is_not_ours_is_refused() -> None:
    with serving_with(symbol_changes="local") as client:
        answer = client.put("/v1/symbols/AAPL?sauce=coinbase")
        assert answer.status_code == 422
        assert "source may be meant" in answer.json()["detail"]
