"""The virtual loop: time, pauses and deaths are as they are for real processes."""

import asyncio

import pytest

from mediaflow.testing.loop import START_S, Stuck, VirtualLoop, current_node


async def tick(log: list[tuple[str, float]], times: int = 10) -> None:
    try:
        for _ in range(times):
            await asyncio.sleep(1)
            log.append((current_node().name, asyncio.get_running_loop().time() - START_S))
    finally:
        log.append((current_node().name, -1))


def play(scenario, seed: int = 1):
    loop = VirtualLoop(seed)
    try:
        return loop.run(scenario(loop))
    finally:
        loop.close()


def test_an_hour_passes_at_once():
    async def scenario(loop):
        await asyncio.sleep(3600)
        return loop.time()

    assert play(scenario) == START_S + 3600


def test_a_paused_process_gets_no_time_and_then_finds_everything_at_once():
    log: list[tuple[str, float]] = []

    async def scenario(loop):
        node = loop.node("a")
        loop.spawn(node, tick(log))
        await asyncio.sleep(2.5)
        loop.pause(node)
        await asyncio.sleep(5)
        loop.resume(node)
        await asyncio.sleep(1.5)
        return [at_s for _, at_s in log]

    assert play(scenario) == [1, 2, 7.5, 8.5]


def test_a_killed_process_runs_no_further_line_and_no_finally_either():
    log: list[tuple[str, float]] = []

    async def scenario(loop):
        node = loop.node("a")
        loop.spawn(node, tick(log))
        await asyncio.sleep(2.5)
        loop.kill(node)
        await asyncio.sleep(10)
        return list(log)

    assert play(scenario) == [("a", 1), ("a", 2)]


def test_others_go_on_while_one_is_paused():
    log: list[tuple[str, float]] = []

    async def scenario(loop):
        paused, other = loop.node("paused"), loop.node("other")
        loop.spawn(paused, tick(log))
        loop.spawn(other, tick(log, 3))
        loop.pause(paused)
        await asyncio.sleep(5)
        return list(log)

    assert play(scenario) == [("other", 1), ("other", 2), ("other", 3), ("other", -1)]


def test_which_process_goes_first_is_the_seed_s_to_say():
    async def scenario(loop):
        log: list[tuple[str, float]] = []
        for name in "abcdef":
            loop.spawn(loop.node(name), tick(log, 1))
        await asyncio.sleep(2)
        return "".join(name for name, at_s in log if at_s > 0)

    orders = {seed: play(scenario, seed) for seed in range(8)}
    assert len(set(orders.values())) > 3
    assert orders == {seed: play(scenario, seed) for seed in range(8)}


def test_within_a_process_callbacks_keep_their_order():
    async def scenario(loop):
        log: list[int] = []
        for number in range(20):
            loop.call_soon(log.append, number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return log

    assert play(scenario) == list(range(20))


def test_a_run_in_which_nothing_can_happen_any_more_says_so():
    async def scenario(_):
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="nothing will ever happen"):
        play(scenario)


def test_a_run_that_does_not_end_in_its_time_says_so():
    async def scenario(loop):
        while True:
            await asyncio.sleep(1)

    loop = VirtualLoop(1)
    with pytest.raises(Stuck, match="virtual time"):
        loop.run(scenario(loop), until_s=100)
    loop.close()


def test_timeouts_task_groups_and_queues_work_as_ever():
    async def scenario(_):
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def feed() -> None:
            await asyncio.sleep(2)
            queue.put_nowait(7)

        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await queue.get()
            return await queue.get()

    assert play(scenario) == 7
