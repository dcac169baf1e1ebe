"""The programs as people run them: ready line, signals, exit status, and one line for each mistake."""

import asyncio
import json
import re
import socket
from pathlib import Path

import pytest
from harness.ports import free_port
from harness.waiting import eventually

pytestmark = pytest.mark.redis

NAMES = ("worker", "loadbalancer")


async def status_of(http, url):
    async with http.get(url) as answer:
        return answer.status, await answer.text()


def logged(program, word):
    return [line for line in program.stderr if word in line]


@pytest.mark.parametrize(
    ("name", "farewell"),
    [
        ("worker", "terminate"),
        ("loadbalancer", "interrupt"),
        pytest.param("worker", "interrupt", marks=pytest.mark.slow),
        pytest.param("loadbalancer", "terminate", marks=pytest.mark.slow),
    ],
)
async def test_a_program_says_ready_serves_and_ends_well_on_a_signal(fleet, http, name, farewell):
    program = fleet.start(name)
    url = await program.ready()
    assert re.fullmatch(rf"ready {name} http://127\.0\.0\.1:\d+", program.stdout[0])
    assert (await status_of(http, f"{url}/healthz"))[0] == 200
    assert (await status_of(http, f"{url}/readyz"))[0] == 200
    getattr(program, farewell)()
    assert await program.ended() == 0
    assert len(program.stdout) == 1
    assert not logged(program, "Traceback")


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        pytest.param("worker", ["--slots", "none"], "slots", marks=pytest.mark.slow),
        ("worker", ["--no-such-flag"], "--no-such-flag"),
        pytest.param(
            "worker", ["--lease-ttl", "10", "--accept-ttl", "20"], "accept_ttl", marks=pytest.mark.slow
        ),
        pytest.param(
            "worker", ["--lease-ttl", "10", "--retention", "15"], "retention", marks=pytest.mark.slow
        ),
        pytest.param("worker", ["--instance-id", "two words"], "two words", marks=pytest.mark.slow),
        pytest.param("worker", ["--host", "0.0.0.0"], "--advertise", marks=pytest.mark.slow),
        pytest.param("worker", ["--advertise", "0.0.0.0:8081"], "wildcard", marks=pytest.mark.slow),
        pytest.param("worker", ["--app", "no_such_module:app"], "no_such_module", marks=pytest.mark.slow),
        pytest.param("worker", ["--app", "harness.handlers:JOURNAL"], "coroutine", marks=pytest.mark.slow),
        pytest.param("loadbalancer", ["--redis", "http://redis"], "http://redis", marks=pytest.mark.slow),
        ("loadbalancer", ["--config", "/no/such/file.toml"], "/no/such/file.toml"),
        pytest.param("loadbalancer", ["--port", "70000"], "70000", marks=pytest.mark.slow),
        pytest.param("loadbalancer", ["--admission", "maybe"], "maybe", marks=pytest.mark.slow),
    ],
)
async def test_a_mistake_is_one_line_on_stderr_and_exit_status_2(fleet, name, arguments, told):
    program = fleet.start(name, *arguments)
    assert await program.ended() == 2
    assert len(program.stderr) == 1, program.report()
    assert told in program.stderr[0]
    assert not program.stdout


@pytest.mark.parametrize("name", [pytest.param("worker", marks=pytest.mark.slow), "loadbalancer"])
async def test_a_port_in_use_is_one_line_and_exit_status_1(fleet, name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        program = fleet.start(name, "--port", str(port))
        assert await program.ended() == 1
    assert len(program.stderr) == 1, program.report()
    assert str(port) in program.stderr[0]


async def test_hundreds_of_clients_at_once_need_not_come_again_after_a_second(fleet, http):
    program = fleet.start("loadbalancer")
    url = await program.ready()
    clients = min(400, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    host, port = program.address.split(":")
    program.stop()  # nobody is accepted: all of them wait where the system keeps them, or are not let in at all
    async with asyncio.timeout(20):
        waiting = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(clients)))
    program.cont()
    assert (await status_of(http, f"{url}/healthz"))[0] == 200
    for _, writer in waiting:
        writer.close()


async def test_a_program_serves_more_clients_than_fit_in_the_files_that_a_process_begins_with(fleet, http):
    program = fleet.start("loadbalancer", inside=("prlimit", "--nofile=200:2000"))
    url = await program.ready()
    host, port = program.address.split(":")
    clients = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(300)))
    assert (await status_of(http, f"{url}/healthz"))[0] == 200
    for _, writer in clients:
        writer.close()


@pytest.mark.slow
async def test_a_host_that_is_not_ours_is_one_line_and_exit_status_1(fleet):
    program = fleet.start("worker", "--host", "192.0.2.1")
    assert await program.ended() == 1
    assert len(program.stderr) == 1, program.report()
    assert "192.0.2.1" in program.stderr[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
async def test_another_number_of_partitions_is_one_line_and_exit_status_2(fleet, name):
    await fleet.balancer()
    program = fleet.start(name, "--partitions", "16")
    assert await program.ended() == 2
    assert len(program.stderr) == 1, program.report()
    assert "32" in program.stderr[0]
    assert "16" in program.stderr[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
async def test_without_redis_a_program_serves_says_so_once_and_keeps_trying(fleet, redis_server, http, name):
    redis_server.stop()
    program = fleet.start(name)
    url = await program.ready()
    code, body = await eventually(
        lambda: status_of(http, f"{url}/readyz"), 10, until=lambda seen: "did not answer" in seen[1]
    )
    assert code == 503
    assert json.loads(body)["status"] == 503
    assert (await status_of(http, f"{url}/healthz"))[0] == 200
    async with http.post(f"{url}/calls/call-1") as answer:
        assert answer.status == 503
        assert "Retry-After" in answer.headers
    redis_server.start()
    await eventually(lambda: status_of(http, f"{url}/readyz"), 15, until=lambda seen: seen[0] == 200)
    await eventually(lambda: len(program.stderr) >= 2, 5)
    warned = logged(program, "warning")
    assert len(warned) == 1, program.report()
    program.terminate()
    assert await program.ended() == 0


@pytest.mark.slow
async def test_without_redis_a_worker_still_ends_at_once_on_a_signal(fleet, redis_server):
    redis_server.stop()
    program = fleet.start("worker")
    await program.ready()
    program.terminate()
    assert await program.ended(10) == 0
    redis_server.start()


async def test_calls_are_placed_found_queued_and_ended_through_the_balancer(fleet, http):
    await fleet.watchdog("--lease-ttl", "3", "--accept-ttl", "1")
    for name in ("alpha", "beta"):
        await fleet.worker(name, 1, "--lease-ttl", "3", "--accept-ttl", "1")
    balancer = await fleet.balancer("--lease-ttl", "3")
    url = balancer.url

    async def post(call_id):
        async with http.post(f"{url}/calls/{call_id}", json={"n": 1}) as answer:
            return answer.status, await answer.json()

    placed = [await post(f"call-{n}") for n in range(3)]
    assert [status for status, _ in placed] == [201, 201, 201]
    assert [told["state"] for _, told in placed] == ["active", "active", "pending"]
    assert {told["owner"] for _, told in placed[:2]} == {"alpha", "beta"}
    status, again = await post("call-0")
    assert (status, again["sessionId"]) == (200, placed[0][1]["sessionId"])
    async with http.delete(f"{url}/calls/call-0") as answer:
        assert answer.status == 204

    async def state():
        async with http.get(f"{url}/calls/call-2") as answer:
            return (await answer.json())["state"]

    await eventually(state, 5, until=lambda seen: seen == "active")


@pytest.mark.slow
async def test_while_a_worker_waits_for_its_calls_it_answers_reads_and_refuses_calls(fleet, http):
    worker = await fleet.worker("alpha", 5, "--drain", "wait", "--drain-timeout", "60")
    async with http.post(f"{worker.url}/calls/call-1") as answer:
        assert answer.status == 201
    worker.terminate()

    async def refused():
        # Of the call that it has: before the signal is seen, another one would be taken, and waited for.
        async with http.post(f"{worker.url}/calls/call-1") as answer:
            return answer.status, answer.headers.get("Retry-After")

    await eventually(refused, 10, until=lambda seen: seen == (503, "1"))
    assert (await status_of(http, f"{worker.url}/readyz"))[0] == 503
    assert (await status_of(http, f"{worker.url}/healthz"))[0] == 200
    code, body = await status_of(http, f"{worker.url}/calls/call-1")
    assert (code, json.loads(body)["state"]) == (200, "active")
    async with http.delete(f"{worker.url}/calls/call-1") as answer:
        assert answer.status == 204
    assert await worker.ended() == 0


@pytest.mark.slow
async def test_a_second_signal_ends_a_drain_at_once(fleet, http):
    worker = await fleet.worker("alpha", 5, "--drain", "wait", "--drain-timeout", "600")
    async with http.post(f"{worker.url}/calls/call-1") as answer:
        assert answer.status == 201
    worker.terminate()
    await eventually(lambda: logged(worker, "SIGTERM"), 10)
    worker.terminate()
    assert await worker.ended(5) == 128 + 15


@pytest.mark.slow
async def test_a_worker_whose_id_a_newer_one_uses_drains_and_ends_well(fleet):
    old = await fleet.worker("alpha")
    await fleet.worker("alpha")
    assert await old.ended(15) == 0
    assert logged(old, "newer process")


async def test_a_worker_that_is_drained_through_the_balancer_hands_off_leaves_and_ends_well(fleet, http):
    await fleet.watchdog()
    alpha = await fleet.worker("alpha", 5)
    async with http.post(f"{alpha.url}/calls/call-1") as answer:
        assert (answer.status, (await answer.json())["owner"]) == (201, "alpha")
    await fleet.worker("beta", 5)
    balancer = await fleet.balancer()
    async with http.post(f"{balancer.url}/instances/alpha/drain") as answer:
        assert (answer.status, (await answer.json())["state"]) == (202, "draining")
    assert await alpha.ended(10) == 0

    async def owner():
        async with http.get(f"{balancer.url}/calls/call-1") as answer:
            return (await answer.json())["sessions"][0]["owner"]

    await eventually(owner, 5, until=lambda seen: seen == "beta")
    _, body = await status_of(http, f"{balancer.url}/instances")
    assert [found["instanceId"] for found in json.loads(body)["instances"]] == ["beta"]
    async with http.post(f"{balancer.url}/instances/alpha/drain") as answer:
        assert answer.status == 404


@pytest.mark.slow
async def test_open_event_streams_do_not_hold_up_the_end(fleet, http):
    balancer = await fleet.balancer()
    async with http.get(f"{balancer.url}/events") as stream:
        assert stream.status == 200
        balancer.terminate()
        assert await balancer.ended(4) == 0
        async with asyncio.timeout(5):
            await stream.content.read()


@pytest.mark.slow
async def test_the_address_for_others_is_the_port_that_was_really_bound(fleet, http):
    worker = await fleet.worker("alpha")
    other = free_port()
    await fleet.worker("beta", 3, "--advertise", f"localhost:{other}")
    _, body = await status_of(http, f"{worker.url}/instances")
    addresses = {found["instanceId"]: found["address"] for found in json.loads(body)["instances"]}
    assert addresses == {"alpha": worker.address, "beta": f"localhost:{other}"}
