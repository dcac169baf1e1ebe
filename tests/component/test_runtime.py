"""The runtime in one process: what a handler sees, and what becomes of its session."""

import asyncio
import gc
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from mediaflow import (
    Draining,
    KeyConflict,
    LeaseLost,
    MediaApp,
    NoFreeSlot,
    QueueFull,
    Session,
    StoreUnavailable,
)
from mediaflow.runtime.actor import Actor

WITHIN_S = 10.0


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4()}"


def make(url: str, handler: Any, **settings: Any) -> MediaApp:
    app = MediaApp(**({"slots": 3, "redis": url, "lease_ttl": 3, "retention": 60} | settings))
    app.session(handler)
    return app


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.005)


async def state_of(app: MediaApp, call_id: str) -> Any:
    return await app._store.describe(call_id)


async def until_state(app: MediaApp, call_id: str, state: str) -> Any:
    async with asyncio.timeout(WITHIN_S):
        while (call := await state_of(app, call_id)) is None or call.state != state:
            await asyncio.sleep(0.005)
    return call


def living(*kinds: type) -> int:
    return sum(isinstance(one, kinds) for one in gc.get_objects())


async def for_ever(session: Session) -> None:
    await asyncio.Event().wait()


async def test_a_coroutine_that_returns_completes_its_call(url: str):
    seen: list[Session] = []

    async def handler(session: Session) -> None:
        seen.append(session)

    async with make(url, handler) as app:
        answer = await app.start_call("call-1", {"room": 7})
        call = await until_state(app, "call-1", "completed")
    assert (answer.created, answer.state, answer.owner) == (
        True,
        "active",
        app.settings.instance_id or answer.owner,
    )
    assert seen[0].metadata == {"room": 7}
    assert (seen[0].id, seen[0].call_id, seen[0].attempt) == (answer.session_id, "call-1", 1)
    assert call.sessions[0].end_reason == "completed"


async def test_of_calls_that_are_over_nothing_is_left_to_the_garbage_collector(url: str):
    async def handler(session: Session) -> None:
        await asyncio.sleep(0 if session.call_id == "returns" else WITHIN_S)

    async with make(url, handler) as app:
        gc.collect()
        gc.disable()
        before = living(Session, Actor)
        try:
            for call_id in ("returns", "is-ended"):
                await app.start_call(call_id)
            await app.end_call("is-ended")
            await eventually(lambda: app.instance.used == 0)
            assert living(Session, Actor) == before
        finally:
            gc.enable()


async def test_a_coroutine_that_raises_is_tried_again_from_its_checkpoint_and_then_given_up(url: str):
    attempts: list[tuple[int, Any]] = []

    async def handler(session: Session) -> None:
        attempts.append((session.attempt, session.resume))
        await session.checkpoint({"attempt": session.attempt})
        raise ValueError("cannot go on")

    async with make(url, handler, max_attempts=2) as app:
        await app.start_call("call-1")
        call = await until_state(app, "call-1", "failed")
        events = await app._store.history("call-1")
    assert attempts == [(1, None), (2, {"attempt": 1})]
    assert call.sessions[0].attempt == 2
    assert "ValueError: cannot go on" in events[-1].reason


async def test_an_ended_call_cancels_the_coroutine_and_says_why(url: str):
    reasons: list[str | None] = []

    async def handler(session: Session) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(session.end_reason)
            with pytest.raises(LeaseLost):
                session.check()

    async with make(url, handler) as app:
        await app.start_call("call-1")
        assert await app.end_call("call-1")
        await eventually(lambda: bool(reasons))
        assert not await app.end_call("call-2")
    assert reasons == ["cancelled"]


async def test_the_same_call_again_finds_its_session_and_the_same_key_the_same_answer(url: str):
    async with make(url, for_ever) as app:
        first = await app.start_call("call-1", {"a": 1}, idempotency_key="k")
        assert await app.start_call("call-1", {"a": 1}, idempotency_key="k") == first
        again = await app.start_call("call-1", {"a": 1})
        assert (again.created, again.session_id) == (False, first.session_id)
        with pytest.raises(KeyConflict):
            await app.start_call("call-1", {"a": 2}, idempotency_key="k")


async def test_a_call_too_many_waits_and_runs_when_a_slot_is_free(url: str):
    async with make(url, for_ever, slots=1) as app:
        await app.start_call("call-1")
        second = await app.start_call("call-2")
        assert (second.state, second.owner) == ("pending", None)
        assert app.instance.used == 1
        await app.end_call("call-1")
        await until_state(app, "call-2", "active")


async def test_a_call_too_many_is_rejected_where_the_user_wants_no_queue(url: str):
    async with make(url, for_ever, slots=1, admission="reject") as app:
        first = await app.start_call("call-1")
        with pytest.raises(NoFreeSlot):
            await app.start_call("call-2")
        assert await state_of(app, "call-2") is None
        assert (await app.start_call("call-1")).session_id == first.session_id, (
            "a running call is found all the same"
        )


async def test_the_queue_is_bounded(url: str):
    async with make(url, for_ever, slots=1, max_pending=2) as app:
        for number in range(3):
            await app.start_call(f"call-{number}")
        with pytest.raises(QueueFull):
            await app.start_call("call-3")


async def test_a_lease_lost_that_leaves_the_coroutine_starts_it_again_as_the_same_attempt(url: str):
    starts: list[tuple[int, Any, int]] = []

    async def handler(session: Session) -> None:
        starts.append((session.attempt, session.resume, session.fence))
        if len(starts) == 1:
            await session.checkpoint(41)
            raise LeaseLost("as check() would")
        await asyncio.Event().wait()

    async with make(url, handler) as app:
        await app.start_call("call-1")
        await eventually(lambda: len(starts) == 2)
    assert starts[1][:2] == (1, 41)
    assert starts[1][2] > starts[0][2], "late writes of the first run must be fenced off"


async def test_drain_hands_sessions_to_another_instance_with_what_finally_checkpointed(url: str):
    resumed: list[Any] = []

    async def handler(session: Session) -> None:
        if session.resume is not None:
            resumed.append((session.resume, session.attempt))
            return
        try:
            await asyncio.Event().wait()
        finally:
            assert session.draining.is_set()
            assert session.end_reason == "drained"
            await session.checkpoint("last words")

    async with make(url, handler) as heir:
        async with make(url, handler) as app:
            answer = await app.start_call("call-1")
            assert answer.owner == app.instance.instance_id
            await app.instance.drain()
            assert app.instance.running == 0
            with pytest.raises(Draining):
                await app.start_call("call-2")
        await eventually(lambda: bool(resumed))
        await until_state(heir, "call-1", "completed")
        events = [event.event for event in await heir._store.history("call-1")]
    assert resumed == [("last words", 1)]
    assert "session.handoff" in events


async def test_drain_by_waiting_lets_a_call_end_by_itself(url: str):
    ended: list[str | None] = []

    async def handler(session: Session) -> None:
        await session.draining.wait()
        ended.append(session.end_reason)

    async with make(url, handler, drain="wait", drain_timeout=WITHIN_S) as app:
        await app.start_call("call-1")
        await app.instance.drain()
        call = await state_of(app, "call-1")
    assert ended == [None]
    assert call.state == "completed"


async def test_published_details_are_shown_and_too_large_a_value_is_refused(url: str):
    errors: list[str] = []

    async def handler(session: Session) -> None:
        await session.publish(port=4000)
        await session.publish(port=4002)
        try:
            await session.checkpoint("x" * 70_000)
        except ValueError as error:
            errors.append(str(error))
        await asyncio.Event().wait()

    async with make(url, handler) as app:
        await app.start_call("call-1")
        await eventually(lambda: bool(errors))
        call = await state_of(app, "call-1")
    assert call.sessions[0].details == b'{"port":4002}'
    assert "65536" in errors[0]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("no such file: caf\udce9.wav"), r"OSError: no such file: caf\udce9.wav"),
        (Unspeakable(), "Unspeakable"),
        (TimeoutError(), "TimeoutError"),
    ],
)
async def test_an_attempt_fails_with_its_reason_whatever_the_exception_says(
    url: str, error: Exception, told: str
):
    async def handler(session: Session) -> None:
        raise error

    async with make(url, handler, max_attempts=1) as app:
        await app.start_call("call-1")
        await until_state(app, "call-1", "failed")
        assert (await app._store.history("call-1"))[-1].reason == told


async def test_an_instance_whose_inner_work_fails_stops_and_says_so(
    url: str, monkeypatch: pytest.MonkeyPatch
):
    async with make(url, for_ever) as app:

        async def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(app._store, "heartbeat", broken)
        with pytest.raises(ExceptionGroup, match="TaskGroup"):
            async with asyncio.timeout(WITHIN_S):
                await app.instance.wait_stopped()
        assert not app.instance.ready
        with pytest.raises(Draining, match="stopped"):
            await app.start_call("call-1")


@pytest.mark.slow
async def test_sessions_outlive_many_leases(url: str):
    lost: list[str] = []

    async def handler(session: Session) -> None:
        try:
            while True:
                session.check()
                await asyncio.sleep(0.05)
        except LeaseLost:
            lost.append(session.id)
            raise

    async with make(url, handler) as app:
        answers = [await app.start_call(f"call-{number}") for number in range(3)]
        # Two leases: as long as it takes to show that renewals, and not the first grant, keep them.
        await asyncio.sleep(6)
        calls = [await state_of(app, answer.call_id) for answer in answers]
    assert not lost
    assert [call.sessions[0].fence for call in calls] == [answer.fence for answer in answers]


@pytest.fixture
async def nowhere() -> str:
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"redis://127.0.0.1:{port}/0"


async def test_an_embedded_app_says_at_its_start_that_redis_is_not_there(
    nowhere: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mediaflow.app.READY_TIMEOUT_S", 0.2)
    with pytest.raises(StoreUnavailable, match="Redis did not answer"):
        async with make(nowhere, for_ever):
            pass


@pytest.mark.parametrize("metadata", [[1], [], "room 7", {7: "room"}])
async def test_metadata_that_are_no_json_object_are_refused_in_words(url: str, metadata: Any):
    async with make(url, for_ever) as app:
        with pytest.raises(TypeError, match="metadata have to be a JSON object"):
            await app.start_call("call-1", metadata)
        assert await state_of(app, "call-1") is None


async def test_who_drains_says_so_before_it_gives_sessions_away_and_is_not_heard_of_after_it_left(url: str):
    async with make(url, for_ever) as watching:
        for _ in range(3):
            async with make(url, for_ever, watchdog=False) as app:
                await app.start_call("call-1")
                leaver = app.instance.instance_id
                before = await watching._store.tail()
            told = (await watching._store.events(before)).events
            kinds = [one.event for one in told if one.instance_id == leaver]
            assert kinds[0] == "instance.draining", kinds
            assert kinds[-1] == "instance.left", kinds
            assert leaver not in [one.instance_id for one in await watching._store.instances()]
            await watching.end_call("call-1")


async def test_an_app_without_a_handler_or_with_a_plain_function_says_so():
    app = MediaApp(redis="memory://")
    with pytest.raises(RuntimeError, match=r"@app\.session"):
        async with app:
            pass
    with pytest.raises(TypeError, match="async def"):
        app.session(lambda session: None)


async def test_a_call_ended_just_before_the_program_leaves_was_cancelled_and_not_handed_off(url: str):
    reasons: list[str | None] = []

    async def handler(session: Session) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(session.end_reason)

    async with make(url, handler) as app:
        await app.start_call("call-1")
        await app.end_call("call-1")
    assert reasons == ["cancelled"]


async def test_a_coroutine_that_calls_sys_exit_fails_its_attempt_and_ends_nobody_else(url: str):
    async def handler(session: Session) -> None:
        if session.call_id == "call-1":
            raise SystemExit(3)
        await asyncio.Event().wait()

    async with make(url, handler, max_attempts=1) as app:
        await app.start_call("call-2")
        await app.start_call("call-1")
        await until_state(app, "call-1", "failed")
        assert (await state_of(app, "call-2")).state == "active"
        assert "sys.exit(3)" in (await app._store.history("call-1"))[-1].reason
