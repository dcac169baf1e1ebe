"""Who may ask: with a token set, nobody without it, in the right words; without one, everybody."""

import hmac
import secrets

import pytest
from harness.wire import answers

from mediaflow.web import auth

pytestmark = pytest.mark.usefixtures("no_fault_logged")

TOKEN = "sesame-ü-" + "x" * 20
OPEN = ("/healthz", "/readyz", "/docs")
CLOSED = {
    "worker": (
        "/calls",
        "/calls/a",
        "/calls/a/history",
        "/instances",
        "/events",
        "/metrics",
        "/openapi.json",
        "/nothing",
    ),
    "loadbalancer": ("/calls", "/calls/a", "/instances", "/events", "/metrics", "/openapi.json", "/nothing"),
    "watchdog": ("/metrics", "/openapi.json", "/nothing"),
    "concurrency": ("/v1/users/ann/streams", "/metrics", "/openapi.json", "/nothing"),
}
WRONG = (
    None, "", "Bearer", "Bearer ", "bearer  ", "Basic " + TOKEN, TOKEN, "Bearer wrong", "Bearer " + TOKEN[:-1],
    "Bearer " + TOKEN[:1], "Bearer " + TOKEN + "x", "Bearer " + TOKEN.upper(), "Bearer \xff\xfe",
    "Bearer " + "y" * 8000,
    "Bearer \N{LATIN SMALL LETTER U WITH DIAERESIS}", f"Bearer {TOKEN}, Bearer {TOKEN}", "Bearer *",
)  # fmt: skip


def ask(path: str, *authorizations: str | None, method: str = "GET", encoding: str = "utf-8") -> bytes:
    given = "".join(f"Authorization: {one}\r\n" for one in authorizations if one is not None)
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{given}\r\n".encode(encoding)


@pytest.mark.parametrize("name", CLOSED)
async def test_a_wrong_token_gets_401_and_learns_nothing(hosting_of, name):
    async with hosting_of(name, api_token=TOKEN) as host:
        for path in CLOSED[name]:
            for given in WRONG:
                [answer] = await answers(host.bound.address, ask(path, given), silence_s=5)
                assert answer.status == 401, (path, given)
                assert answer.headers["www-authenticate"].startswith('Bearer realm="mediaflow"')
                assert TOKEN not in answer.body.decode()
                assert answer.problem["detail"]
        for path in OPEN:
            [answer] = await answers(host.bound.address, ask(path), silence_s=5)
            assert answer.status == 200, path


@pytest.mark.parametrize("name", CLOSED)
async def test_the_right_token_is_let_in_whatever_case_its_scheme_has(hosting_of, name):
    async with hosting_of(name, api_token=TOKEN) as host:
        for scheme in ("Bearer", "bearer", "BEARER"):
            [answer] = await answers(host.bound.address, ask("/metrics", f"{scheme} {TOKEN}"), silence_s=5)
            assert answer.status == 200
        [answer] = await answers(
            host.bound.address, ask("/metrics", f"Bearer {TOKEN}", encoding="latin-1"), silence_s=5
        )
        assert answer.status == 401  # the same letters in other bytes


@pytest.mark.parametrize(
    "path",
    ["/healthz/../calls", "/docs/../metrics", "//healthz", "/healthz/", "/HEALTHZ", "/docs%2f..%2fcalls"],
)
async def test_no_path_that_begins_like_an_open_one_is_open(hosting_of, path):
    async with hosting_of("worker", api_token=TOKEN) as host:
        [answer] = await answers(host.bound.address, ask(path), silence_s=5)
        assert answer.status in (401, 404), answer
        assert b"calls" not in answer.body or answer.status == 401


async def test_the_first_of_two_tokens_counts_for_calls_and_two_are_none_for_streams(hosting_of):
    async with hosting_of("worker", api_token=TOKEN) as host:
        [answer] = await answers(
            host.bound.address, ask("/calls", "Bearer wrong", f"Bearer {TOKEN}"), silence_s=5
        )
        assert answer.status == 401
    async with hosting_of("concurrency", api_token=TOKEN) as host:
        twice = ask("/v1/users/ann/streams", f"Bearer {TOKEN}", f"Bearer {TOKEN}")
        [answer] = await answers(host.bound.address, twice, silence_s=5)
        assert answer.status == 401


async def test_nothing_is_done_for_a_wrong_token(hosting_of):
    async with hosting_of("worker", api_token=TOKEN) as host:
        for method in ("POST", "DELETE"):
            [answer] = await answers(
                host.bound.address, ask("/calls/a", "Bearer no", method=method), silence_s=5
            )
            assert answer.status == 401
        [calls] = await answers(host.bound.address, ask("/calls", f"Bearer {TOKEN}"), silence_s=5)
        assert calls.body == b'{"calls":[],"cursor":null}'


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr(
        auth.hmac, "compare_digest", lambda *pair: compared.append(pair) or secrets.compare_digest(*pair)
    )
    assert hmac is auth.hmac
    assert not auth.same("a", "b" * 100)
    assert not auth.same("", "b")
    assert not auth.same("\udcff", "ü")
    assert auth.same("ü", "ü")
    assert auth.same("\udcff", "\udcff")
    assert len(compared) == 5


async def test_without_a_token_everybody_may_ask(hosting_of):
    # The default is for loopback and trusted networks: see test_security_listening.
    async with hosting_of("worker") as host:
        [answer] = await answers(host.bound.address, ask("/calls"), silence_s=5)
        assert answer.status == 200
