"""The HTTP contract of the concurrency service, as players and back ends meet it."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import jwt
import pytest
from harness.players import concurrency_service
from harness.waiting import eventually

from mediaflow.settings import Settings, env_name, load
from mediaflow.supervisor.plan import Plan

PROBLEM = "application/problem+json"
SHORT = {"stream_ttl": 1.0, "stream_heartbeat_interval": 0.3}


@pytest.fixture
async def player():
    async with concurrency_service(stream_limit=2) as found:
        yield found


def is_problem(answer, status: int) -> bool:
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.body["status"] == status
    assert answer.body["detail"]
    return True


async def test_a_start_says_all_that_a_player_needs_in_headers_and_body(player):
    answer = await player.start("ann", "tv", metadata={"channel": "one"})
    assert answer.status == 201
    body, headers = answer.body, answer.headers
    assert {**body, "streamId": "", "expiresAt": "", "token": ""} == {
        "streamId": "",
        "userId": "ann",
        "deviceId": "tv",
        "limit": 2,
        "active": 1,
        "expiresAt": "",
        "ttlMs": 90_000,
        "heartbeatIntervalMs": 30_000,
        "token": "",
        "degraded": False,
    }
    assert headers["Cache-Control"] == "no-store"
    assert headers["Location"].startswith("/v1/users/ann/streams/")
    expires, date = (parsedate_to_datetime(headers[name]) for name in ("Expires", "Date"))
    assert expires - date == timedelta(seconds=90)
    assert abs(datetime.fromisoformat(body["expiresAt"]) - expires) <= timedelta(seconds=1)
    assert expires.tzinfo == UTC


async def test_a_heartbeat_is_taken_by_put_and_post_with_any_body_and_with_none(player):
    location = (await player.start()).headers["Location"]
    for method, options in (
        ("PUT", {}),
        ("POST", {}),
        ("PUT", {"json": {"position": 3}}),
        ("POST", {"data": b"\xff\x00", "headers": {"Content-Type": "application/octet-stream"}}),
    ):
        answer = await player.ask(method, location, **options)
        assert answer.status == 200
        assert answer.body["streamId"] in location
        assert answer.body["token"]
        assert {"Date", "Expires"} <= answer.headers.keys()
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "suffix", "options"),
    [
        ("DELETE", "", {}),
        ("DELETE", "", {"data": b"x"}),
        ("POST", "/stop", {}),
        ("POST", "/stop", {"data": "bye", "headers": {"Content-Type": "text/plain;charset=UTF-8"}}),
        ("POST", "/stop", {"data": b"\x00\xff", "headers": {"Content-Type": "application/x-whatever"}}),
    ],
)
async def test_a_stream_is_stopped_once_and_gone_after(player, method, suffix, options):
    location = (await player.start()).headers["Location"]
    assert (await player.ask(method, location + suffix, **options)).status == 204
    again = await player.ask(method, location + suffix, **options)
    assert is_problem(again, 410)
    assert again.body["terminatedBy"] is None
    assert is_problem(await player.beat(location), 410)
    assert (await player.streams())["active"] == 0


async def test_one_stream_too_many_is_refused_with_what_is_in_the_way(player):
    for device in ("tv", "phone"):
        assert (await player.start(device=device, metadata={"title": device})).status == 201
    answer = await player.start(device="tablet")
    assert is_problem(answer, 409)
    assert (answer.body["limit"], answer.body["active"]) == (2, 2)
    assert [one["deviceId"] for one in answer.body["conflicts"]] == ["tv", "phone"]
    assert answer.body["conflicts"][0]["metadata"] == {"title": "tv"}
    (advice,) = answer.body["advice"]
    assert (advice["policy"], advice["rule"], advice["attribute"], advice["threshold"]) == (
        *("user", "streams", None),
        2,
    )
    assert (await player.streams())["active"] == 2


async def test_the_oldest_goes_if_the_player_says_so_and_hears_by_whom(player):
    first = (await player.start(device="tv")).headers["Location"]
    await player.start(device="phone")
    assert (await player.start(device="tablet", onLimit="stop_oldest")).status == 201
    ended = await player.beat(first)
    assert is_problem(ended, 410)
    assert ended.body["terminatedBy"]["deviceId"] == "tablet"
    assert "tablet" in ended.body["detail"]
    assert is_problem(await player.stop(first), 410)
    assert [one["deviceId"] for one in (await player.streams())["streams"]] == ["phone", "tablet"]


@pytest.mark.parametrize("form", ["body", "header", "repeated headers"])
async def test_termination_codes_come_in_the_body_or_in_headers(form):
    async with concurrency_service(stream_limit=2) as player:
        for device in ("tv", "phone"):
            await player.start(device=device)
        codes = [one["terminationCode"] for one in (await player.start()).body["conflicts"]]
        given = {
            "body": {"terminate": codes},
            "header": {"headers": {"X-Terminate": " , ".join(codes) + ","}},
            "repeated headers": {"headers": [("X-Terminate", code) for code in codes]},
        }[form]
        answer = await player.start(device="tablet", **given)
        assert (answer.status, answer.body["active"]) == (201, 1)
        # A code is for once: the streams that play now have others.
        await player.start(device="phone")
        assert (await player.start(device="tv", **given)).status == 409


async def test_a_cast_takes_the_place_of_the_phones_stream():
    async with concurrency_service(stream_limit=1) as player:
        phone = await player.start(device="phone")
        cast = await player.start(device="tv", replaces=phone.body["streamId"])
        assert (cast.status, cast.body["active"]) == (201, 1)
        assert (await player.beat(phone.headers["Location"])).body["terminatedBy"]["deviceId"] == "tv"


async def test_a_repeated_request_with_its_key_begins_no_second_stream(player):
    key = {"Idempotency-Key": "k-1"}
    first, second = await player.start(headers=key), await player.start(headers=key)
    assert (first.status, second.status) == (201, 201)
    assert first.body["streamId"] == second.body["streamId"]
    assert (await player.streams())["active"] == 1
    assert is_problem(await player.start(device="phone", headers=key), 422)
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert is_problem(await player.start(headers=twice), 400)
    assert is_problem(await player.start(headers={"Idempotency-Key": "a b"}), 400)


async def test_a_made_up_stream_is_unknown_and_so_is_another_users(player):
    mine = (await player.start("ann")).body["streamId"]
    for user, stream in (("bob", mine), ("ann", "made-up"), ("ann", mine[:-1]), ("ann", ""), ("ann", "%2e")):
        for method, suffix in (("PUT", ""), ("POST", ""), ("DELETE", ""), ("POST", "/stop")):
            assert is_problem(await player.ask(method, f"/v1/users/{user}/streams/{stream}{suffix}"), 404)
    assert (await player.streams())["active"] == 1


async def test_an_expired_stream_comes_back_with_its_heartbeat_if_there_is_room():
    async with concurrency_service(stream_limit=1, **SHORT) as player:
        location = (await player.start()).headers["Location"]
        await eventually(player.streams, 5, until=lambda found: found["active"] == 0)
        assert (await player.beat(location)).status == 200
        assert (await player.streams())["active"] == 1


async def test_an_expired_stream_is_gone_and_nobody_is_said_to_have_ended_it():
    async with concurrency_service(stream_limit=1, readmit=False, **SHORT) as player:
        location = (await player.start()).headers["Location"]
        await eventually(player.streams, 5, until=lambda found: found["active"] == 0)
        answer = await player.beat(location)
        assert is_problem(answer, 410)
        assert answer.body["terminatedBy"] is None
        assert "expired" in answer.body["detail"]


async def test_a_limit_of_ones_own_holds_from_then_on_and_null_takes_it_back(player):
    for device in ("tv", "phone"):
        await player.start(device=device)
    assert (await player.ask("PUT", "/v1/users/ann/limits", json={"limit": 1})).status == 204
    found = await player.streams()
    assert (found["limit"], found["active"]) == (1, 2)
    assert (await player.start(device="tablet")).body["limit"] == 1
    assert (await player.ask("PUT", "/v1/users/ann/limits", json={"limit": None})).status == 204
    assert (await player.streams())["limit"] == 2
    for wrong in (
        {"limit": -1},
        {"limit": "3"},
        {"limit": 1.5},
        {"limit": 10_001},
        {},
        {"limit": 1, "x": 1},
        [],
    ):
        assert is_problem(await player.ask("PUT", "/v1/users/ann/limits", json=wrong), 400)


async def test_too_many_requests_are_told_when_to_come_again_and_stop_is_none_of_them():
    async with concurrency_service(stream_throttle=3) as player:
        location = (await player.start()).headers["Location"]
        answers = [await player.beat(location) for _ in range(5)]
        assert is_problem(answers[-1], 429)
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
        assert (await player.stop(location)).status == 204


ODD = ["a+b", "a:b", "a*", "{x}", "é", "a/b", "a b", "a%2Fb", "x" * 256, "?#&", "日本語" * 80, "a\u2028b"]


@pytest.mark.parametrize("user", ODD, ids=range(len(ODD)))
async def test_odd_but_legal_users_round_trip_and_stay_apart(player, user):
    others = [other for other in ("a", "a b", "a+b", "x", "e", "a%2Fb") if other != user]
    for other in others:
        await player.start(other)
    answer = await player.start(user)
    assert answer.status == 201, answer
    assert (answer.body["userId"], answer.body["active"]) == (user, 1)
    assert (await player.beat(answer.headers["Location"])).body["userId"] == user
    assert (await player.streams(user))["active"] == 1
    assert jwt.decode(answer.body["token"], options={"verify_signature": False})["sub"] == user
    assert (await player.stop(answer.headers["Location"])).status == 204


async def test_the_same_user_written_in_two_ways_is_one_user(player):
    for written in ("%61%2bb", "a+b", "a%2Bb"):
        await player.ask("POST", f"/v1/users/{written}/streams", json={"deviceId": "tv"})
    assert (await player.streams("a+b"))["active"] == 2


@pytest.mark.parametrize(
    "user", ["", "%", "%zz", "%e", "%ff", "%c3", "%00", "%0a", "%7f", "%C2%85", "x" * 257]
)
async def test_users_that_are_not_legal_are_refused_and_not_a_fault_of_ours(player, user):
    for method, path in (
        ("POST", f"/v1/users/{user}/streams"),
        ("GET", f"/v1/users/{user}/streams"),
        ("PUT", f"/v1/users/{user}/streams/x"),
        ("DELETE", f"/v1/users/{user}/streams/x"),
        ("POST", f"/v1/users/{user}/streams/x/stop"),
        ("PUT", f"/v1/users/{user}/limits"),
    ):
        assert is_problem(await player.ask(method, path, json={"deviceId": "tv"}), 400)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b'{"deviceId": ""}',
        b'{"deviceId": 1}',
        b'{"deviceId": "a\\u0000"}',
        b'{"deviceId": "a\\n"}',
        b'{"deviceId": "\\ud800"}',
        b'{"deviceId": "' + b"x" * 257 + b'"}',
        b'{"deviceId": "tv", "metadata": []}',
        b'{"deviceId": "tv", "metadata": {"x": NaN}}',
        b'{"deviceId": "tv", "onLimit": "explode"}',
        b'{"deviceId": "tv", "terminate": "x"}',
        b'{"deviceId": "tv", "deviceID": "tv"}',
        b'{"deviceId": "tv", "metadata": {"x": "' + b"y" * 20_000 + b'"}}',
        b'{"deviceId": "tv", "metadata": ' + b'{"x":' * 2000 + b"1" + b"}" * 2001,
    ],
)
async def test_a_body_that_is_not_understood_is_refused(player, body):
    assert is_problem(await player.ask("POST", "/v1/users/ann/streams", data=body), 400)
    assert (await player.streams())["active"] == 0


async def test_a_body_that_is_too_large_is_refused(player):
    answer = await player.ask("POST", "/v1/users/ann/streams", data=b" " * 70_000)
    assert is_problem(answer, 413)


async def test_metadata_comes_back_as_it_was_given(player):
    odd = {"a": [], "b": {}, "c": [{}], "big": 2**53 + 1, "n": None, "f": 1.5, "ü": "\u2028", "": True}
    await player.start(metadata=odd)
    (stream,) = (await player.streams())["streams"]
    assert stream["metadata"] == odd


async def test_any_page_may_ask_and_read_the_headers_that_matter(player):
    location = (await player.start()).headers["Location"]
    asked = {"Origin": "https://play.example", "Access-Control-Request-Method": "PUT"}
    for path, methods in ((location, {"PUT", "POST", "DELETE"}), ("/v1/users/ann/streams", {"POST", "GET"})):
        answer = await player.ask("OPTIONS", path, headers=asked)
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert methods <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
        for name in ("Authorization", "Content-Type", "Idempotency-Key", "X-Terminate"):
            assert name in answer.headers["Access-Control-Allow-Headers"]
    for answer in (
        await player.start(),
        await player.start(),
        await player.beat("/v1/users/ann/streams/x"),
        await player.ask("GET", "/v1/nothing"),
        await player.ask("PATCH", location),
        await player.ask("GET", "/v1/users/%ff/streams"),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert exposed == {"Date", "Expires", "Location", "Retry-After"}


async def test_what_is_not_there_and_what_is_not_possible_is_told_apart(player):
    assert is_problem(await player.ask("GET", "/v1/users/ann"), 404)
    assert is_problem(await player.ask("OPTIONS", "/v1/users/ann"), 404)
    assert is_problem(await player.ask("GET", "/nothing"), 404)
    answer = await player.ask("PATCH", "/v1/users/ann/streams")
    assert is_problem(answer, 405)
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    assert (await player.ask("HEAD", "/v1/users/ann/streams")).status == 200


async def test_anyone_can_verify_the_token_of_an_answer(player):
    body = (await player.start("ann", "tv")).body
    keys = await player.ask("GET", "/.well-known/jwks.json")
    assert keys.status == 200
    key = jwt.PyJWKSet.from_dict(keys.body)[jwt.get_unverified_header(body["token"])["kid"]]
    claims = jwt.decode(body["token"], key, algorithms=["EdDSA", "ES256"])
    assert (claims["sub"], claims["device"], claims["stream"]) == ("ann", "tv", body["streamId"])
    assert (claims["limit"], claims["active"]) == (2, 1)
    assert abs(claims["exp"] - datetime.fromisoformat(body["expiresAt"]).timestamp()) <= 1
    assert "d" not in keys.body["keys"][0], "a private key was served"


async def test_what_happens_is_counted(player):
    location = (await player.start(device="a")).headers["Location"]
    await player.start(device="b")
    await player.start(device="c")
    await player.start(device="c", onLimit="stop_oldest")
    await player.beat(location)
    (first, *_) = (await player.streams())["streams"]
    await player.stop(f"/v1/users/ann/streams/{first['streamId']}")
    counted = {
        name: await player.metric(f"streams_{name}_total")
        for name in ("started", "refused", "taken_over", "stopped", "expired", "degraded")
    }
    assert counted == {
        "started": 3,
        "refused": 1,
        "taken_over": 1,
        "stopped": 1,
        "expired": 0,
        "degraded": 0,
    }
    assert await player.metric("streams_of_user_count") == 3
    assert await player.metric("streams_of_user_sum") == 1 + 2 + 2


async def test_health_documents_and_the_page_are_served(player):
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/metrics"):
        assert (await player.ask("GET", path)).status == 200


def test_lists_of_settings_reach_the_programs_of_up_as_they_were_given():
    rules = [{"policy": "live", "max": 1, "where": {"contentType": "live"}, "attribute": "channel"}]
    algorithms = ["RS256", "ES256"]
    settings = load(
        {"stream_rules": rules, "jwt_algorithms": algorithms, "jwt_jwks": "/keys.json", "readmit": False}
    )
    environment = Plan(settings=settings, port=1, streams_port=2, workers=()).environment({})
    again = load(environ={name: value for name, value in environment.items() if "LOG" not in name})
    assert again == settings
    assert env_name("stream_rules") in environment
    assert isinstance(again, Settings)
