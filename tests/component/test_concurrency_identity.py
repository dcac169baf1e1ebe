"""Who may ask for what: nobody checked, one token for all, or a signed token for each user."""

import json
import time

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from harness.players import concurrency_service

from mediaflow.concurrency import keys
from mediaflow.concurrency.identity import Identity
from mediaflow.settings import Settings, SettingsError

SECRET = "a secret that is long enough for HS256"
HMAC = {"jwt_algorithms": ("HS256",), "jwt_key": SECRET}
STREAMS = "/v1/users/ann/streams"
BODY = {"deviceId": "tv"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def signed(key=SECRET, algorithm="HS256", *, headers=None, **claims) -> dict[str, str]:
    told = {"sub": "ann", "exp": int(time.time()) + 60, **claims}
    plain = {name: value for name, value in told.items() if value is not None}
    return bearer(jwt.encode(plain, key, algorithm=algorithm, headers=headers))


def public_pem(key) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def jwk(key, algorithm: str, kid: str) -> dict:
    found = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": kid, "use": "sig"}


PAIRS = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def refused(answer, status: int = 401) -> bool:
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    return True


async def test_with_the_api_token_set_everything_but_health_and_keys_and_stop_needs_it():
    async with concurrency_service(api_token="open sesame") as player:
        for method, path in (
            *(("POST", STREAMS), ("GET", STREAMS), ("PUT", STREAMS + "/x"), ("POST", STREAMS + "/x")),
            *(("DELETE", STREAMS + "/x"), ("PUT", "/v1/users/ann/limits")),
            *(("GET", "/metrics"), ("GET", "/openapi.json")),
        ):
            assert refused(await player.ask(method, path, json=BODY))
            assert refused(await player.ask(method, path, json=BODY, headers=bearer("wrong")))
            assert refused(await player.ask(method, path, json=BODY, headers={"Authorization": "Basic eDp5"}))
        for path in ("/healthz", "/readyz", "/docs", "/.well-known/jwks.json"):
            assert (await player.ask("GET", path)).status == 200
        assert (await player.ask("OPTIONS", STREAMS)).status == 204
        started = await player.ask("POST", STREAMS, json=BODY, headers=bearer("open sesame"))
        assert started.status == 201
        assert (await player.ask("POST", started.headers["Location"] + "/stop", data="x")).status == 204
        assert refused(await player.ask("POST", STREAMS + "/made-up/stop"), 404)


async def test_what_a_users_token_claims_goes_before_path_and_payload():
    async with concurrency_service(stream_limit=5, **HMAC) as player:
        token = signed(device_id="kitchen", stream_limit=1)
        answer = await player.start("ann", "forged", headers=token)
        assert (answer.status, answer.body["deviceId"], answer.body["limit"]) == (201, "kitchen", 1)
        assert refused(await player.start("ann", "forged", headers=token), 409)
        assert (await player.streams(headers=token))["limit"] == 1
        assert (await player.beat(answer.headers["Location"], headers=token)).body["limit"] == 1
        # Without a claim, the payload says which device it is; with one, it need not.
        assert (await player.start("ann", "tv", headers=signed())).body["deviceId"] == "tv"
        nothing_said = await player.ask("POST", STREAMS, headers=signed(device_id="x"))
        assert (nothing_said.status, nothing_said.body["deviceId"]) == (201, "x")


async def test_what_is_another_users_is_not_found():
    async with concurrency_service(**HMAC) as player:
        location = (await player.start("ann", headers=signed())).headers["Location"]
        bob = signed(sub="bob")
        for method, path in (
            *(("POST", STREAMS), ("GET", STREAMS), ("PUT", location), ("POST", location)),
            ("DELETE", location),
        ):
            assert refused(await player.ask(method, path, json=BODY, headers=bob), 404)
        assert refused(await player.beat(location.replace("/ann/", "/bob/"), headers=bob), 404)
        assert refused(await player.ask("POST", location.replace("/ann/", "/bob/") + "/stop"), 404)
        assert (await player.beat(location, headers=signed())).status == 200


async def test_a_signed_stream_id_alone_is_enough_to_stop_it():
    async with concurrency_service(**HMAC) as player:
        location = (await player.start("ann", headers=signed())).headers["Location"]
        assert refused(await player.stop(location))
        assert (await player.ask("POST", location + "/stop", data="bye")).status == 204


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer("not a token"),
        bearer("a.b.c"),
        {"Authorization": "Basic x"},
        signed(exp=int(time.time()) - 60),
        signed(key="another secret that is long enough, too"),
        signed(sub=None),
        signed(sub=""),
        signed(sub=["ann"]),
        signed(sub="x" * 257),
        signed(stream_limit="many"),
        signed(stream_limit=-1),
        signed(stream_limit=True),
        signed(device_id=["tv"]),
        signed(key=SECRET * 2, algorithm="HS512"),
        bearer(jwt.encode({"sub": "ann"}, None, algorithm="none")),
        bearer(jwt.encode({"sub": "ann"}, PAIRS["RS256"], algorithm="RS256")),
        [("Authorization", signed()["Authorization"])] * 2,
    ],
    ids=str,
)
async def test_a_token_that_is_missing_or_not_right_is_401(headers):
    async with concurrency_service(**HMAC) as player:
        assert refused(await player.ask("POST", STREAMS, json=BODY, headers=headers))


async def test_issuer_audience_and_the_names_of_claims_are_as_they_were_set():
    settings = {
        "jwt_issuer": "https://id.example",
        "jwt_audience": "player",
        "jwt_user_claim": "uid",
        "jwt_device_claim": "dev",
        "jwt_limit_claim": "max",
    }
    right = {"iss": "https://id.example", "aud": ["player", "web"], "uid": 42, "dev": "d", "max": 7}
    async with concurrency_service(**HMAC, **settings) as player:
        path = "/v1/users/42/streams"
        answer = await player.ask("POST", path, json=BODY, headers=signed(**right))
        assert (answer.status, answer.body["deviceId"], answer.body["limit"]) == (201, "d", 7)
        for wrong in ({"iss": "x"}, {"iss": None}, {"aud": "x"}, {"aud": None}, {"uid": None}):
            assert refused(await player.ask("POST", path, json=BODY, headers=signed(**right | wrong)))
    async with concurrency_service(**HMAC) as player:
        assert (await player.start(headers=signed(aud="whoever", iss="whoever"))).status == 201


@pytest.mark.parametrize("algorithm", PAIRS)
@pytest.mark.parametrize("given", ["pem", "one line", "path"])
async def test_public_keys_are_taken_as_pem_and_as_a_path(algorithm, given, tmp_path):
    pem = public_pem(PAIRS[algorithm])
    (tmp_path / "key.pem").write_text(pem)
    key = {"pem": pem, "one line": pem.replace("\n", "\\n"), "path": str(tmp_path / "key.pem")}[given]
    async with concurrency_service(jwt_algorithms=tuple(PAIRS), jwt_key=key) as player:
        assert (await player.start(headers=signed(PAIRS[algorithm], algorithm))).status == 201
        for other in PAIRS.keys() - {algorithm}:
            assert refused(await player.start(headers=signed(PAIRS[other], other)))
        # A public key is no secret: nobody may sign with it (RFC 8725, section 2.1).
        forged = jwt.PyJWS().encode(
            json.dumps({"sub": "ann"}).encode(), b"x" * 40, algorithm="HS256", headers={"typ": "JWT"}
        )
        assert refused(await player.start(headers=bearer(forged)))


async def test_a_set_of_keys_is_read_from_a_file(tmp_path):
    path = tmp_path / "jwks.json"
    found = [jwk(key, algorithm, algorithm) for algorithm, key in PAIRS.items()]
    path.write_text(json.dumps({"keys": [{"kty": "odd"}, *found, {**found[0], "kid": "enc", "use": "enc"}]}))
    async with concurrency_service(jwt_algorithms=("ES256", "EdDSA"), jwt_jwks=str(path)) as player:
        for algorithm in ("ES256", "EdDSA"):
            token = signed(PAIRS[algorithm], algorithm, headers={"kid": algorithm})
            assert (await player.start(headers=token)).status == 201
            assert (await player.start(headers=signed(PAIRS[algorithm], algorithm))).status in {201, 409}
        assert refused(await player.start(headers=signed(PAIRS["RS256"], "RS256", headers={"kid": "RS256"})))
        crossed = signed(PAIRS["ES256"], "ES256", headers={"kid": "EdDSA"})
        assert refused(await player.start(headers=crossed))


class Issuer:
    """Serves a set of keys that a test changes, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 200
        self.kids = {"one": "ES256"}

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response(
            {"keys": [jwk(PAIRS[kind], kind, kid) for kid, kind in self.kids.items()]}, status=self.status
        )

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/jwks.json", self.answer)
        return app


async def test_a_set_of_keys_by_url_is_kept_and_asked_for_again_only_now_and_then(monkeypatch):
    issuer = Issuer()
    async with TestServer(issuer.app()) as server:
        settings = {"jwt_algorithms": ("ES256", "EdDSA"), "jwt_jwks": str(server.make_url("/jwks.json"))}
        async with concurrency_service(stream_limit=100, **settings) as player:
            one = signed(PAIRS["ES256"], "ES256", headers={"kid": "one"})
            two = signed(PAIRS["EdDSA"], "EdDSA", headers={"kid": "two"})
            for _ in range(5):
                assert (await player.start(headers=one)).status == 201
                assert refused(await player.start(headers=two))
            assert issuer.asked == 1, "tokens with unknown keys made us ask again and again"
            monkeypatch.setattr(keys, "REFRESH_AFTER_S", 0.0)
            issuer.kids["two"] = "EdDSA"
            assert (await player.start(headers=two)).status == 201
            assert issuer.asked == 2
            # What we have goes on being used while the issuer is away.
            monkeypatch.setattr(keys, "STALE_AFTER_S", 0.0)
            issuer.status = 500
            assert (await player.start(headers=one)).status == 201
            assert issuer.asked == 3


async def test_keys_that_were_never_to_be_had_are_a_fault_of_ours():
    issuer = Issuer()
    issuer.status = 500
    async with TestServer(issuer.app()) as server:
        settings = {"jwt_algorithms": ("ES256",), "jwt_jwks": str(server.make_url("/jwks.json"))}
        async with concurrency_service(**settings) as player:
            token = signed(PAIRS["ES256"], "ES256", headers={"kid": "one"})
            answer = await player.start(headers=token)
            assert refused(answer, 503)
            assert answer.headers["Retry-After"]


async def test_limits_need_the_api_token_as_soon_as_anything_is_authenticated():
    path, limit = "/v1/users/ann/limits", {"limit": 9}
    async with concurrency_service() as player:
        assert (await player.ask("PUT", path, json=limit)).status == 204
    async with concurrency_service(**HMAC) as player:
        assert refused(await player.ask("PUT", path, json=limit))
        answer = await player.ask("PUT", path, json=limit, headers=signed())
        assert refused(answer)
        assert "MEDIAFLOW_API_TOKEN" in answer.body["detail"]
    async with concurrency_service(api_token="open sesame", **HMAC) as player:
        assert refused(await player.ask("PUT", path, json=limit, headers=signed()))
        assert (await player.ask("PUT", path, json=limit, headers=bearer("open sesame"))).status == 204
        assert (await player.start(headers=signed())).body["limit"] == 9
        # A back end with the API token is believed, whoever it starts streams for.
        assert (await player.start("bob", headers=bearer("open sesame"))).status == 201


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"jwt_algorithms": ("HS256",), "jwt_key": "short"}, "32"),
        ({"jwt_algorithms": ("ES256",), "jwt_key": "/no/such/file.pem"}, "No such file"),
        ({"jwt_algorithms": ("ES256",), "jwt_key": "-----BEGIN PUBLIC KEY-----\nx"}, "PEM"),
        ({"jwt_algorithms": ("ES256",), "jwt_key": public_pem(PAIRS["RS256"])}, "ES256"),
        ({"jwt_algorithms": ("ES256",), "jwt_key": private_pem(PAIRS["ES256"])}, "private"),
        ({"jwt_algorithms": ("ES256",), "jwt_jwks": "/no/such/file.json"}, "No such file"),
    ],
)
def test_keys_that_cannot_be_used_are_told_at_the_start_without_showing_them(settings, said):
    with pytest.raises(SettingsError) as found:
        Identity(Settings(**settings))
    assert said in str(found.value)
    assert "short" not in str(found.value)
    assert "BEGIN" not in str(found.value)
