"""The concurrency service as real processes over a real Redis: replicas that agree, and a Redis that goes away."""

import asyncio

import pytest
from harness.api import Api
from harness.stopwatch import Stopwatch
from harness.waiting import eventually

pytestmark = pytest.mark.redis

ROUNDS = 10
ANSWER_WITHIN_S = 0.5


async def start(api: Api, user: str, device: str = "tv", **more):
    return await api.ask("POST", f"/v1/users/{user}/streams", json={"deviceId": device, **more})


async def replicas(fleet, http, number: int, *arguments: str, **environ: str) -> list[Api]:
    programs = [fleet.start("concurrency", *arguments, environ=environ) for _ in range(number)]
    return [Api(http, await program.ready()) for program in programs]


async def metric(api: Api, name: str) -> float:
    return await api.gauge(f"streams_{name}_total")


@pytest.mark.slow
async def test_of_fifty_parallel_starts_on_two_replicas_exactly_as_many_succeed_as_the_limit_allows(
    fleet, http
):
    services = await replicas(fleet, http, 2, "--stream-limit", "3")
    for number in range(ROUNDS):
        answers = await asyncio.gather(
            *(start(services[i % 2], f"user-{number}", f"device-{i}") for i in range(50))
        )
        statuses = sorted(answer.status for answer in answers)
        assert statuses == [201] * 3 + [409] * 47
        won = {answer.body["streamId"] for answer in answers if answer.status == 201}
        for service in services:
            listed = (await service.ask("GET", f"/v1/users/user-{number}/streams")).body
            assert {stream["streamId"] for stream in listed["streams"]} == won
    assert sum([await metric(service, "started") for service in services]) == 3 * ROUNDS
    assert sum([await metric(service, "refused") for service in services]) == 47 * ROUNDS


@pytest.mark.slow
async def test_replicas_know_each_others_streams_and_agree_on_a_key(fleet, http):
    one, other = await replicas(fleet, http, 2)
    started = await start(one, "ann")
    location = started.headers["Location"]
    assert (await other.ask("PUT", location)).status == 200
    keys = [(await service.ask("GET", "/.well-known/jwks.json")).body for service in (one, other)]
    assert keys[0] == keys[1]
    assert len(keys[0]["keys"]) == 1
    assert (await other.ask("POST", location + "/stop", data="bye")).status == 204
    assert (await one.ask("PUT", location)).status == 410


async def timed(asked):
    with Stopwatch() as watch:
        answer = await asked
    watch.assert_within(ANSWER_WITHIN_S, f"{answer.status} was answered")
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_with_redis_away_players_play_on_and_are_counted_again_when_it_is_back(
    fleet, http, redis_server, fault
):
    (service,) = await replicas(fleet, http, 1, "--stream-limit", "1")
    before = await start(service, "ann")
    redis_server.stop() if fault == "killed" else redis_server.freeze()
    beat = await timed(service.ask("PUT", before.headers["Location"]))
    assert (beat.status, beat.body["degraded"]) == (200, True)
    away = await timed(start(service, "bob"))
    assert (away.status, away.body["degraded"]) == (201, True)
    also = await timed(start(service, "bob", "phone"))
    assert also.status == 201, "a fault of ours refused a player"
    assert (await timed(service.ask("PUT", away.headers["Location"]))).status == 200
    assert (await timed(service.ask("GET", "/v1/users/bob/streams"))).status == 503
    await eventually(lambda: service.ask("GET", "/readyz"), 5, until=lambda found: found.status == 503)
    assert (await service.ask("GET", "/healthz")).status == 200
    assert await metric(service, "degraded") >= 4
    redis_server.start() if fault == "killed" else redis_server.thaw()

    await eventually(lambda: service.ask("GET", "/readyz"), 10, until=lambda found: found.status == 200)
    kept = await service.ask("PUT", before.headers["Location"])
    assert (kept.status, kept.body["degraded"]) == (200, False)
    # Of two that began uncounted one fits, and the other hears that it does not.
    assert (await service.ask("PUT", away.headers["Location"])).status == 200
    assert (await service.ask("PUT", also.headers["Location"])).status == 410
    assert (await start(service, "bob", "tablet")).status == 409


@pytest.mark.slow
async def test_on_request_streams_are_denied_while_redis_is_away(fleet, http, redis_server):
    (service,) = await replicas(fleet, http, 1, "--on-store-down", "deny")
    location = (await start(service, "ann")).headers["Location"]
    redis_server.stop()
    for asked in (start(service, "ann"), service.ask("PUT", location), service.ask("DELETE", location)):
        answer = await timed(asked)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["Content-Type"] == "application/problem+json"
    redis_server.start()
    await eventually(lambda: service.ask("PUT", location), 10, until=lambda found: found.status == 200)


@pytest.mark.slow
async def test_a_redis_that_was_silent_from_the_start_keeps_nobody_waiting(fleet, http, redis_server):
    redis_server.freeze()
    (service,) = await replicas(fleet, http, 1)
    for _ in range(3):
        answer = await timed(start(service, "ann"))
        assert (answer.status, answer.body["degraded"]) == (201, True)
        assert (await timed(service.ask("PUT", answer.headers["Location"]))).status == 200
    redis_server.thaw()
    await eventually(lambda: service.ask("GET", "/readyz"), 10, until=lambda found: found.status == 200)


@pytest.mark.slow
async def test_it_starts_without_redis_and_needs_no_restart_when_redis_comes(fleet, http, redis_server):
    redis_server.stop()
    (service,) = await replicas(fleet, http, 1)
    assert (await service.ask("GET", "/readyz")).status == 503
    answer = await timed(start(service, "ann"))
    assert (answer.status, answer.body["degraded"], answer.body["token"]) == (201, True, None)
    redis_server.start()
    await eventually(lambda: service.ask("GET", "/readyz"), 10, until=lambda found: found.status == 200)
    beat = await service.ask("PUT", answer.headers["Location"])
    assert (beat.status, beat.body["degraded"]) == (200, False)
    assert beat.body["token"]


async def test_sigterm_ends_it_with_status_zero(fleet, http):
    await replicas(fleet, http, 1)
    (program,) = fleet.programs
    program.terminate()
    assert await program.ended(10) == 0
    assert len([line for line in program.stdout if line.startswith("ready concurrency http://")]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--stream-limit", "-1"), "stream", marks=pytest.mark.slow),
        (("--stream-ttl", "10"), "stream_heartbeat_interval"),
        pytest.param(("--jwt-algorithms", "HS256"), "jwt_key", marks=pytest.mark.slow),
        pytest.param(("--jwt-algorithms", "none", "--jwt-key", "x"), "HS256", marks=pytest.mark.slow),
        (("--jwt-algorithms", "HS256", "--jwt-key", "hunter2"), "32"),
        pytest.param(("--on-store-down", "panic"), "allow", marks=pytest.mark.slow),
        (("--stream-rules", "{"), "stream-rules"),
    ],
)
async def test_settings_that_cannot_be_are_one_line_and_status_two(fleet, arguments, said):
    program = fleet.start("concurrency", *arguments)
    assert await program.ended() == 2, program.report()
    assert len(program.stderr) == 1, program.report()
    assert said in program.stderr[0]
    assert "hunter2" not in program.stderr[0]
