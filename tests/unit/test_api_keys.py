"""Keys and limits as clients meet them: HTTP, WebSockets, a browser's cookie, pages elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tapeline.api.guard import Guard
from tapeline.api.keys import Keys
from tapeline.api.limits import RequestLimits
from tapeline.local.service import LOOPBACK
from tapeline.program.metrics import API_METRICS, Metrics
from tests.served import keys_in, serving, serving_with

ANNA = "2b7e151628aed2a6abf7158809cf4f3c"
BERTA = "b12a6cd9f00b4c2d9b0c7e55a1d3e8f2"
WRONG = "8d969eef6ecad3c29a3a629280e686cf"
ELSEWHERE = {"Origin": "https://charts.example"}
COOKIE = "tapeline_market_data"
OPEN = ["/", "/static/app.js", "/health/live"]
CLOSED = [
    "/v1/symbols",
    "/v1/bars/AAPL",
    "/v1/bars?symbols=AAPL",
    "/v1/trades/AAPL",
    "/v1/gaps",
    "/v1/status",
    "/v1/stream?symbols=AAPL",
    "/metrics",
    "/openapi.json",
    "/nothing",
    "/static",
    "/health",
    "/health/live/",
    "/v1/bars/..%2f..%2fhealth%2flive",
]


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keys_in(tmp_path_factory.mktemp("keys"), anna=ANNA, berta=BERTA)


@pytest.fixture(scope="module")
def client(keys_file: Path) -> Iterator[httpx.Client]:
    with serving_with(keys_file=keys_file) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def refused(client: httpx.Client, reason: str, headers: dict[str, str] | None = None) -> float:
    """Return how often something was refused for a reason."""
    text = client.get("/metrics", headers=headers or {}).text
    line = f'tapeline_api_refused_total{{reason="{reason}"}} '
    return next(float(row.removeprefix(line)) for row in text.splitlines() if row.startswith(line))


def session_of(client: httpx.Client) -> str:
    answer = client.post("/v1/session", headers={"X-API-Key": ANNA})
    assert answer.status_code == 204
    return answer.cookies[COOKIE]


def socket(client: httpx.Client, **headers: str) -> ClientConnection:
    url = str(client.base_url).replace("http", "ws").rstrip("/")
    return connect(f"{url}/v1/ws", additional_headers=headers, origin=None)


def is_heard(connection: ClientConnection) -> bool:
    with connection:
        return "state" in str(connection.recv(timeout=5))


@pytest.mark.parametrize("path", OPEN)
def test_the_page_and_probes_ask_for_no_key(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200
    assert client.get(path, headers=bearer(WRONG)).status_code == 200


def test_whether_bars_can_be_read_is_said_without_a_key(client: httpx.Client) -> None:
    assert client.get("/health/ready").status_code == 503


@pytest.mark.parametrize("path", CLOSED)
def test_everything_else_asks_for_one(client: httpx.Client, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        answer = client.request(method, path)
        assert answer.status_code == 401, method
        assert answer.headers["www-authenticate"] == 'Bearer realm="tapeline"'
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.get(path).json() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "A key is needed here: send it as `Authorization: Bearer …` or `X-API-Key: …`.",
    }


@pytest.mark.parametrize(
    "headers",
    [
        bearer(ANNA),
        bearer(BERTA),
        {"Authorization": f"bearer   {ANNA}"},
        {"X-API-Key": ANNA},
        {"X-API-Key": BERTA, "Authorization": "Basic YTpi"},
    ],
)
def test_a_key_opens_everything(client: httpx.Client, headers: dict[str, str]) -> None:
    assert client.get("/openapi.json", headers=headers).status_code == 200
    assert client.get("/metrics", headers=headers).status_code == 200
    assert client.get("/v1/symbols", headers=headers).status_code == 503  # Cassandra is away
    assert client.get("/nothing", headers=headers).status_code == 404
    with client.stream("GET", "/v1/stream?symbols=A", headers=headers) as stream:
        assert stream.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        bearer(WRONG),
        bearer(ANNA[:-1]),
        bearer(ANNA + "0"),
        bearer(ANNA.upper()),
        bearer(f"anna:{ANNA}"),
        bearer(f"{ANNA} {ANNA}"),
        {"X-API-Key": WRONG},
        {"X-API-Key": f"Bearer {ANNA}"},
        {"X-API-Key": WRONG, "Authorization": f"Bearer {WRONG}"},
        {**bearer(WRONG), "X-API-Key": ANNA},
    ],
)
def test_a_wrong_key_is_told_from_none(client: httpx.Client, headers: dict[str, str]) -> None:
    answer = client.get("/openapi.json", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["detail"].startswith("That key is not known here: send another as")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ANNA},
        {"Authorization": f"Basic {ANNA}"},
        {"Authorization": "Bearer"},
        {"X-API-Key": ""},
        {"Cookie": f"{COOKIE}={ANNA}"},
        {"Cookie": f"{COOKIE}=9999999999.{'0' * 64}"},
        {"Cookie": f"x={ANNA}"},
    ],
)
def test_what_is_no_key_at_all_opens_nothing(client: httpx.Client, headers: dict[str, str]) -> None:
    for path in ("/openapi.json", f"/openapi.json?key={ANNA}", f"/v1/symbols?token={ANNA}"):
        assert client.get(path, headers=headers).status_code == 401
    assert client.post("/v1/session", headers=headers).status_code == 401


def test_a_browser_gives_its_key_once_for_a_cookie_that_scripts_cannot_read(
    client: httpx.Client,
) -> None:
    answer = client.post("/v1/session", headers={"X-API-Key": ANNA})
    cookie = answer.headers["set-cookie"]
    client.cookies.clear()

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert cookie.startswith(f"{COOKIE}=")
    given = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert given == {"httponly", "max-age=604800", "path=/", "samesite=strict"}
    assert ANNA[:8] not in cookie

    value = {"Cookie": f'theme=dark; {COOKIE}={answer.cookies[COOKIE]}; other=[1,"2"]'}
    assert client.get("/openapi.json", headers=value).status_code == 200
    assert is_heard(socket(client, **value))
    # A key that is sent goes before a cookie.
    assert client.get("/openapi.json", headers={**value, **bearer(WRONG)}).status_code == 401
    # A cookie alone opens no further session.
    assert client.post("/v1/session", headers=value).status_code == 422


def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_and_its_path(keys_file: Path) -> None:
    headers = {"X-API-Key": ANNA, "X-Forwarded-Proto": "https"}
    with serving_with("/tapeline/", keys_file=keys_file, proxies="127.0.0.1") as named:
        cookie = named.post("/v1/session", headers=headers).headers["set-cookie"]
        assert named.get("/", headers=headers).status_code == 200
        assert named.get("/v1/symbols").status_code == 401
    with serving_with(keys_file=keys_file) as other:
        unknown = other.post("/v1/session", headers=headers).headers["set-cookie"]
    assert "; Path=/tapeline;" in cookie
    assert cookie.endswith("; Secure")
    assert "Secure" not in unknown


def test_without_keys_there_is_no_session_and_nothing_is_asked_for() -> None:
    with serving_with() as client:
        assert client.get("/openapi.json", headers=bearer(WRONG)).status_code == 200
        assert client.post("/v1/session", headers=bearer(ANNA)).status_code == 404
        assert "securitySchemes" not in client.get("/openapi.json").json()["components"]
        assert is_heard(socket(client))


def test_a_socket_asks_for_a_key_before_it_is_opened(client: httpx.Client) -> None:
    for headers in ({}, bearer(WRONG)):
        with pytest.raises(InvalidStatus) as raised:
            socket(client, **headers)
        answer = raised.value.response
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert json.loads(answer.body)["status"] == 401
    assert is_heard(socket(client, **bearer(ANNA)))
    assert is_heard(socket(client, **{"X-API-Key": BERTA}))


def test_a_page_of_another_origin_opens_no_socket_with_our_cookie(keys_file: Path) -> None:
    with serving_with(keys_file=keys_file, cors_origins=ELSEWHERE["Origin"]) as client:
        cookie = {"Cookie": f"{COOKIE}={session_of(client)}"}
        own = str(client.base_url).rstrip("/")
        for origin in ("http://127.0.0.1:1", "https://evil.example", "null", "http://["):
            with pytest.raises(InvalidStatus) as raised:
                socket(client, **cookie, Origin=origin)
            assert raised.value.response.status_code == 403
            # A key in a header is sent by nobody who does not have it.
            assert is_heard(socket(client, **bearer(ANNA), Origin=origin))
        assert is_heard(socket(client, **cookie, Origin=own))
        assert is_heard(socket(client, **cookie, **ELSEWHERE))
        assert refused(client, "origin", bearer(ANNA)) == 4


@pytest.mark.parametrize("origins", [ELSEWHERE["Origin"], "*"])
def test_pages_of_named_origins_may_send_a_key_and_never_a_cookie(
    keys_file: Path, origins: str
) -> None:
    asked = {
        **ELSEWHERE,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization,x-api-key",
    }
    with serving_with(keys_file=keys_file, cors_origins=origins) as client:
        preflight = client.options("/v1/bars/AAPL", headers=asked)
        to_post = client.options(
            "/v1/session", headers={**asked, "Access-Control-Request-Method": "POST"}
        )
        with_key = client.get("/openapi.json", headers={**ELSEWHERE, **bearer(ANNA)})
        without = client.get("/openapi.json", headers=ELSEWHERE)
        session = {"Cookie": f"{COOKIE}={session_of(client)}"}
        with_cookie = client.get("/openapi.json", headers={**ELSEWHERE, **session})

    assert preflight.status_code == 200
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert {"authorization", "x-api-key"} <= set(allowed.split(", "))
    assert to_post.status_code == 400
    assert (with_key.status_code, without.status_code) == (200, 401)
    for answer in (preflight, with_key, without, with_cookie):
        assert answer.headers["access-control-allow-origin"] in {"*", ELSEWHERE["Origin"]}
        assert "access-control-allow-credentials" not in answer.headers


def test_the_description_says_which_paths_ask_for_a_key(client: httpx.Client) -> None:
    described = client.get("/openapi.json", headers=bearer(ANNA)).json()
    assert described["security"] == [{"bearer": []}, {"header": []}]
    assert described["components"]["securitySchemes"].keys() == {"bearer", "header"}
    is_open = {
        path
        for path, item in described["paths"].items()
        if item.get("get", {}).get("security") == []
    }
    assert is_open == {"/health/live", "/health/ready"}


def test_no_cache_of_others_keeps_what_a_key_has_opened(keys_file: Path) -> None:
    async def kept(_: object) -> PlainTextResponse:
        return PlainTextResponse("bars", headers={"Cache-Control": "public, max-age=3600"})

    def guarded(keys: Keys | None) -> Guard:
        return Guard(
            Starlette(routes=[Route("/kept", kept)]),
            keys=keys,
            limits=RequestLimits(0, 1),
            metrics=Metrics(API_METRICS),
            cookie=COOKIE,
            origins=[],
        )

    with serving(guarded(Keys(keys_file))) as client:  # type: ignore[arg-type]
        answer = client.get("/kept", headers=bearer(ANNA))
        assert answer.headers["cache-control"] == "private, max-age=3600"
    with serving(guarded(None)) as client:  # type: ignore[arg-type]
        assert client.get("/kept").headers["cache-control"] == "public, max-age=3600"


def test_refusals_are_counted_by_reason_alone(keys_file: Path) -> None:
    with serving_with(keys_file=keys_file) as client:
        for _ in range(3):
            client.get("/v1/symbols")
        for _ in range(2):
            client.get("/v1/symbols", headers=bearer(WRONG))
        assert refused(client, "no_key", bearer(ANNA)) == 3
        assert refused(client, "wrong_key", bearer(ANNA)) == 2
        text = client.get("/metrics", headers=bearer(ANNA)).text
    assert 'tapeline_api_requests_total{route="none",status="401"} 5.0' in text
    assert not [word for word in (ANNA[:8], WRONG[:8], "anna", "127.0.0.1") if word in text]


def of(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


def test_a_client_that_asks_too_often_is_told_when_to_ask_again() -> None:
    """A tenth of a request a second, and three at once, as our proxy tells clients apart."""
    with serving_with(request_rate=0.1, burst=3, proxies="127.0.0.0/8") as client:
        answers = [client.get("/health/live", headers=of("203.0.113.7")) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        late = answers[-1]
        assert late.headers["content-type"] == "application/problem+json"
        assert 1 <= int(late.headers["retry-after"]) <= 10
        assert late.json()["detail"].startswith("There are too many requests from here: ask again")
        # What a client writes there itself stands before what our proxy adds.
        forged = of("198.51.100.1, 203.0.113.7")
        assert client.get("/health/live", headers=forged).status_code == 429
        assert client.get("/health/live", headers=of("198.51.100.1")).status_code == 200
        with pytest.raises(InvalidStatus) as raised:
            socket(client, **of("203.0.113.7"))
        assert raised.value.response.status_code == 429
        assert refused(client, "requests") == 3


def test_without_a_proxy_of_ours_nobody_says_for_whom_it_asks() -> None:
    """All of these are this machine, which has no limit."""
    with serving_with(request_rate=0.1, burst=1) as client:
        answers = [client.get("/health/live", headers=of("203.0.113.7")) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}


def test_a_key_has_one_limit_wherever_it_comes_from(keys_file: Path) -> None:
    limited = {"request_rate": 0.1, "burst": 2, "proxies": LOOPBACK}
    with serving_with(keys_file=keys_file, **limited) as client:
        asks = [{**bearer(ANNA), **of(f"203.0.113.{number}")} for number in range(3)]
        answers = [client.get("/openapi.json", headers=headers) for headers in asks]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert client.get("/openapi.json", headers=bearer(BERTA)).status_code == 200
        # Who guesses is counted by address.
        guesses = [{**bearer(WRONG), **of("203.0.113.9")} for _ in range(3)]
        answers = [client.get("/openapi.json", headers=headers) for headers in guesses]
        assert [answer.status_code for answer in answers] == [401, 401, 429]


def test_one_client_has_so_many_streams_of_both_kinds(keys_file: Path) -> None:
    with serving_with(keys_file=keys_file, streams_per_client=2) as client, ExitStack() as stack:
        path = "/v1/stream?symbols=A"
        first = stack.enter_context(client.stream("GET", path, headers=bearer(ANNA)))
        assert first.status_code == 200
        second = stack.enter_context(socket(client, **bearer(ANNA)))
        assert "state" in str(second.recv(timeout=5))

        third = client.get(path, headers=bearer(ANNA))
        assert (third.status_code, third.headers["retry-after"]) == (429, "5")
        said = "There are 2 streams from here, as many as may be: close some first."
        assert third.json()["detail"] == said
        with socket(client, **bearer(ANNA)) as fourth, pytest.raises(ConnectionClosed) as closed:
            fourth.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, said)

        assert is_heard(socket(client, **bearer(BERTA)))
        second.close()
        assert is_heard(socket(client, **bearer(ANNA)))
        assert refused(client, "streams", bearer(BERTA)) == 2


def test_messages_of_a_socket_wait_for_their_turn(keys_file: Path) -> None:
    """Two a second, and two at once: of four, two wait, half a second each."""
    with serving_with(keys_file=keys_file, request_rate=2, burst=2) as client:
        connection = socket(client, **bearer(ANNA))
        with connection:
            started = time.monotonic()
            for _ in range(4):
                connection.send("?")
            heard = 0
            while heard < 4:
                heard += '"error"' in str(connection.recv(timeout=5))
            assert time.monotonic() - started > 0.9
