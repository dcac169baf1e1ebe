"""Whatever bytes a client sends: never a 500, no traceback in the log, and the next client is served."""

import pytest
from harness.wire import answers, assault

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
PROGRAMS = ("worker", "loadbalancer", "watchdog", "concurrency")


@pytest.mark.usefixtures("no_fault_logged")
@pytest.mark.parametrize("name", PROGRAMS)
async def test_no_bytes_break_a_program(hosting_of, name):
    async with hosting_of(name) as host:
        assert await assault(host.bound.address, seed=1, requests=60) > 30
        [healthy] = await answers(host.bound.address, HEALTH, silence_s=5)
        assert healthy.status == 200
        assert not host.program.problem()


@pytest.mark.slow
@pytest.mark.redis
async def test_no_bytes_break_the_real_programs(fleet):
    worker, balancer, streams = (
        fleet.start(name, "--log-level", "debug") for name in ("worker", "loadbalancer", "concurrency")
    )
    for program in (worker, balancer, streams):
        await program.ready(40)
        assert await assault(program.address, seed=2, requests=300) > 150
    for program in (worker, balancer, streams):
        [healthy] = await answers(program.address, HEALTH, silence_s=5)
        assert healthy.status == 200
        assert "Traceback" not in program.report()
        program.terminate()
    assert [await program.ended() for program in (worker, balancer, streams)] == [0, 0, 0]
