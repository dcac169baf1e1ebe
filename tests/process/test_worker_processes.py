"""A worker on several cores: `--processes K`, as the one who runs it sees it."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
from harness.api import Api
from harness.ports import free_port
from harness.processes import ROOT, Program
from harness.stopwatch import Stopwatch
from harness.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.slow]

LEASE = ("--lease-ttl", "3", "--accept-ttl", "1")
PROC = Path("/proc")


def ready_urls(program: Program) -> list[str]:
    return [found[1] for line in list(program.stdout) if (found := re.fullmatch(r"ready worker (\S+)", line))]


async def serving(program: Program, number: int = 2) -> list[str]:
    return await eventually(
        lambda: ready_urls(program), 60, until=lambda urls: len(urls) >= number, about=program.report()
    )


def children(pid: int) -> list[int]:
    return [int(word) for word in (PROC / f"{pid}/task/{pid}/children").read_text().split()]


def process_of(program: Program, instance_id: str) -> int:
    """Return the process id of one of a worker's processes, by its command."""
    for pid in children(program.pid):
        if instance_id in (PROC / f"{pid}/cmdline").read_bytes().decode().split("\0"):
            return pid
    raise AssertionError(f"{program.pid} has no process {instance_id}")


async def test_each_process_says_ready_and_is_an_instance_of_its_own(fleet, http):
    worker = fleet.start("worker", "--processes", "2", "--instance-id", "X", "--slots", "3")
    urls = await serving(worker)
    assert len(set(urls)) == 2
    for url in urls:
        async with http.get(f"{url}/readyz") as answer:
            assert answer.status == 200
    instances = await Api(http, urls[0]).instances()
    assert {name: found["slots"] for name, found in instances.items()} == {"X-1": 3, "X-2": 3}
    assert {f"http://{found['address']}" for found in instances.values()} == set(urls)
    worker.terminate()
    assert await worker.ended() == 0, worker.report()
    assert len(ready_urls(worker)) == 2


async def test_ports_and_addresses_for_others_count_up_from_those_that_were_given(fleet, http):
    port, outer = free_port(1), 40_000
    worker = fleet.start(
        "worker", "--processes", "2", "--port", str(port), "--advertise", f"localhost:{outer}"
    )
    urls = await serving(worker)
    assert set(urls) == {f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"}
    instances = await Api(http, urls[0]).instances()
    assert {found["address"] for found in instances.values()} == {
        f"localhost:{outer}",
        f"localhost:{outer + 1}",
    }


async def test_calls_of_a_process_that_is_killed_move_within_a_second_and_it_comes_back(fleet, http):
    await fleet.watchdog(*LEASE)
    worker = fleet.start(
        "worker", "--processes", "2", "--instance-id", "X", *LEASE, "--app", "harness.handlers:idle"
    )
    await serving(worker)
    api = Api(http, (await fleet.balancer(*LEASE[:2])).url)
    calls = [f"call-{n}" for n in range(8)]
    await api.submit_all(calls)
    await eventually(api.owners, 10, until=lambda owners: set(owners.values()) == {"X-1", "X-2"})
    doomed = process_of(worker, "X-1")
    with Stopwatch() as watch:
        os.kill(doomed, signal.SIGKILL)
        await eventually(api.owners, 10, until=lambda owners: list(owners.values()) == ["X-2"] * len(calls))
    watch.assert_within(1.0, "the calls of the killed process were all the other's")
    await serving(worker, 3)
    await eventually(api.instances, 10, until=lambda found: set(found) == {"X-1", "X-2"})


async def test_one_signal_drains_all_processes_and_hands_their_calls_off(fleet, http):
    await fleet.watchdog(*LEASE)
    worker = fleet.start(
        "worker", "--processes", "2", "--instance-id", "X", *LEASE, "--app", "harness.handlers:idle"
    )
    await serving(worker)
    api = Api(http, (await fleet.balancer(*LEASE[:2])).url)
    calls = [f"call-{n}" for n in range(6)]
    await api.submit_all(calls)
    await fleet.worker("other", 100, *LEASE, "--app", "harness.handlers:idle")
    worker.interrupt()
    assert await worker.ended() == 0, worker.report()
    await eventually(api.owners, 10, until=lambda owners: owners == dict.fromkeys(calls, "other"))
    assert {event["event"] for call in calls for event in await api.history(call)} >= {"session.handoff"}
    assert not [line for line in worker.stderr if "Traceback" in line]


async def test_a_second_signal_ends_all_processes_at_once(fleet, http):
    worker = fleet.start(
        "worker", "--processes", "2", "--instance-id", "X", "--drain", "wait", "--drain-timeout", "600"
    )
    urls = await serving(worker)
    await Api(http, urls[0]).submit("call-1")
    processes = children(worker.pid)
    worker.terminate()
    await eventually(lambda: [line for line in worker.stderr if "draining" in line], 10)
    worker.terminate()
    assert await worker.ended(5) == 128 + signal.SIGTERM
    await eventually(lambda: [pid for pid in processes if (PROC / str(pid)).exists()] == [], 5)


async def test_processes_do_not_outlive_the_one_over_them(fleet):
    worker = fleet.start("worker", "--processes", "2")
    await serving(worker)
    processes = children(worker.pid)
    worker.kill()
    await eventually(lambda: [pid for pid in processes if (PROC / str(pid)).exists()] == [], 5)


async def test_a_handler_that_keeps_its_loop_busy_costs_the_other_process_no_lease(fleet, http):
    await fleet.watchdog(*LEASE)
    worker = fleet.start(
        "worker", "--processes", "2", "--instance-id", "X", *LEASE, "--app", "harness.handlers:stubborn"
    )
    api = Api(http, (await serving(worker))[0])
    addresses = {name: f"http://{found['address']}" for name, found in (await api.instances()).items()}
    calm = Api(http, addresses["X-2"])
    before = (await calm.submit("calm")).body
    await Api(http, addresses["X-1"]).submit("busy", {"of": "X-1", "blocks_s": 6})

    async def busy_events():
        return [event["event"] for event in await calm.history("busy")]

    await eventually(busy_events, 12, until=lambda events: "session.pending" in events)
    after = (await calm.call("calm"))["sessions"]
    assert [(one["owner"], one["fence"]) for one in after] == [("X-2", before["fence"])]
    assert [event["event"] for event in await calm.history("calm")] == [
        "session.created",
        "session.activated",
    ]


async def test_the_handler_that_kept_the_loop_busy_is_named_in_a_line_and_a_metric(fleet, http):
    worker = await fleet.worker("alpha", 3, "--app", "harness.handlers:stubborn")
    await Api(http, worker.url).submit("busy", {"of": "alpha", "blocks_s": 0.6})
    told = await eventually(lambda: [line for line in worker.stderr if "loop.blocked" in line], 10)
    line = json.loads(told[0])
    assert (line["handler"], line["call"]) == ("harness.handlers.stubborn", "busy")
    assert re.search(r"tests/harness/handlers\.py:\d+ in stubborn$", line["at"])

    async def metrics():
        async with http.get(f"{worker.url}/metrics") as answer:
            return await answer.text()

    named = 'mediaflow_loop_blocked_seconds_count{handler="harness.handlers.stubborn"} 1.0'
    found = await eventually(metrics, 10, until=lambda text: named in text)
    assert float(re.search(r"^mediaflow_loop_lag_max_seconds (\S+)$", found, re.MULTILINE)[1]) > 0.3


async def test_a_process_that_cannot_listen_ends_the_worker_with_the_reason(fleet, redis_server):
    worker = fleet.start(
        "worker", "--processes", "2", "--port", redis_server.url.rpartition(":")[2].split("/")[0]
    )
    assert await worker.ended() == 1
    assert any("cannot listen" in line for line in worker.stderr), worker.report()
    assert worker.stderr[-1].endswith("-1 ended before it was ready (exit status 1)")
    assert "Traceback" not in worker.report()


async def test_an_app_that_runs_itself_runs_on_several_processes(redis_server, http, tmp_path):
    (tmp_path / "recorder_script.py").write_text(
        "from mediaflow import MediaApp\n"
        f"app = MediaApp(processes=2, port=0, slots=2, redis={redis_server.url!r})\n"
        "@app.session\n"
        "async def record(session):\n"
        "    pass\n"
        "if __name__ == '__main__':\n"
        "    app.run()\n"
    )
    program = Program("recorder_script", environ={"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"})
    try:
        urls = await serving(program)
        assert {found["slots"] for found in (await Api(http, urls[0]).instances()).values()} == {2}
        program.terminate()
        assert await program.ended() == 0, program.report()
    finally:
        program.close()
