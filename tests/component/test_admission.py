"""What makes an instance take no call although it has a slot: its load, its user's hook, the caller's account."""

import asyncio
import math
import threading
import uuid
from typing import Any

import pytest
from harness.waiting import eventually

from mediaflow import (
    CallRefused,
    IncomingCall,
    MediaApp,
    NoFreeSlot,
    QueueFull,
    Session,
    StreamLimiter,
    StreamRefused,
)
from mediaflow.core import tenure
from mediaflow.runtime import load as load_module
from mediaflow.runtime import oncall


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4()}"


def make(url: str, **settings: Any) -> MediaApp:
    app = MediaApp(**({"slots": 3, "redis": url, "lease_ttl": 3, "retention": 60} | settings))

    @app.session
    async def for_ever(session: Session) -> None:
        await asyncio.Event().wait()

    return app


async def record_of(app: MediaApp) -> Any:
    found = {one.instance_id: one for one in await app._store.instances()}
    return found[app.instance.instance_id]


async def state_of(app: MediaApp, call_id: str) -> str | None:
    call = await app._store.describe(call_id)
    return None if call is None else call.state


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "ASK_INTERVAL_S", 0.01)


# -- load ------------------------------------------------------------------------------------------


class Gauge:
    """A load that a test sets; and what it was asked in."""

    def __init__(self, load: Any = 0.0) -> None:
        self.load = load
        self.asked = 0

    async def __call__(self) -> Any:
        self.asked += 1
        if isinstance(self.load, Exception):
            raise self.load
        return self.load


async def test_an_overloaded_instance_says_so_takes_nothing_new_and_goes_on_with_what_runs(url: str):
    gauge = Gauge(0.2)
    async with make(url, load=gauge, admission="reject") as app:
        first = await app.start_call("call-1")
        gauge.load = 0.95
        await eventually(lambda: record_of(app), 5, until=lambda found: found.overloaded)
        record = await record_of(app)
        assert (record.slots, record.used, record.free, record.load) == (3, 1, 0, 0.95)
        with pytest.raises(NoFreeSlot, match=r"load is 0\.95.*load_threshold is 0\.9.*1 of 3"):
            await app.start_call("call-2")
        assert (await app.start_call("call-1")).session_id == first.session_id
        assert await state_of(app, "call-1") == "active"
        gauge.load = 0.85
        asked = gauge.asked
        await eventually(lambda: gauge.asked > asked + 1, 5)
        assert (await record_of(app)).overloaded, "a little below the threshold is not yet well below it"
        gauge.load = 0.3
        await eventually(lambda: record_of(app), 5, until=lambda found: not found.overloaded)
        assert (await app.start_call("call-2")).state == "active"


async def test_a_call_at_an_overloaded_instance_waits_and_is_given_to_it_when_its_load_has_fallen(url: str):
    gauge = Gauge(1.0)
    async with make(url, load=gauge) as app:
        await eventually(lambda: record_of(app), 5, until=lambda found: found.overloaded)
        assert (await app.start_call("call-1")).state == "pending"
        assert (app.instance.used, await state_of(app, "call-1")) == (0, "pending")
        gauge.load = 0.1
        await eventually(lambda: state_of(app, "call-1"), 10, until=lambda state: state == "active")


@pytest.mark.parametrize("broken", [OSError("no gauge"), math.nan, -1, "busy", None])
async def test_a_broken_load_is_told_once_and_turns_no_call_away(
    url: str, broken: Any, monkeypatch: pytest.MonkeyPatch
):
    told: list[str] = []
    monkeypatch.setattr(load_module.log, "warning", lambda event, **_: told.append(event), raising=False)
    gauge = Gauge(broken)
    async with make(url, load=gauge) as app:
        await eventually(lambda: gauge.asked > 3, 5)
        assert (await app.start_call("call-1")).state == "active"
        assert (await record_of(app)).load is None
    assert told == ["instance.load_unknown"]


async def test_a_load_that_hangs_holds_no_heartbeat_up_and_is_not_asked_twice_at_a_time(
    url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(load_module, "ANSWER_WITHIN_S", 0.01)
    asked: list[int] = []

    async def hang() -> float:
        asked.append(1)
        await asyncio.Event().wait()
        return 0.0

    async with make(url, load=hang) as app:
        await eventually(lambda: asked, 5)
        assert (await app.start_call("call-1")).state == "active"
        await eventually(lambda: record_of(app), 5, until=lambda found: found.used == 1)
    assert len(asked) == 1


async def test_a_plain_function_is_asked_in_a_thread_so_that_it_may_take_its_time(url: str):
    app = make(url)
    threads: set[int] = set()

    @app.load
    def measure() -> float:
        threads.add(threading.get_ident())
        return 0.5

    async with app:
        await eventually(lambda: app.instance.load == 0.5, 5)
    assert threading.get_ident() not in threads


def test_an_app_has_one_load_and_it_is_a_function(url: str):
    app = make(url, load=Gauge())
    with pytest.raises(TypeError, match="already"):
        app.load(Gauge())
    with pytest.raises(TypeError, match="returns 0 to 1"):
        make(url).load(0.5)  # type: ignore[arg-type]


# -- on_call ---------------------------------------------------------------------------------------


class Door:
    """A hook that answers as a test says, and remembers what it was asked."""

    def __init__(self, app: MediaApp, answer: Any = True) -> None:
        self.answer = answer
        self.asked: list[IncomingCall] = []

        @app.on_call
        async def admit(call: IncomingCall) -> Any:
            self.asked.append(call)
            answer = self.answer(call) if callable(self.answer) else self.answer
            if isinstance(answer, BaseException):
                raise answer
            return answer


async def test_a_call_is_asked_about_once_and_its_repetitions_find_what_was_accepted(url: str):
    app = make(url)
    door = Door(app)
    async with app:
        first = await app.start_call("call-1", {"room": 7}, idempotency_key="k")
        door.answer = False
        assert await app.start_call("call-1", {"room": 7}, idempotency_key="k") == first
        assert (await app.start_call("call-1")).session_id == first.session_id
        assert door.asked == [
            IncomingCall(
                call_id="call-1",
                metadata={"room": 7},
                instance_id=app.instance.instance_id,
                free_slots=3,
            )
        ]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (False, "does not want this call"),
        ("no GPU here", "^no GPU here$"),
        (CallRefused("not now"), "^not now$"),
        (ZeroDivisionError("a fault"), "on_call of instance .* failed: ZeroDivisionError$"),
        (SystemExit(3), "failed: SystemExit"),
        (7, "returned neither"),
    ],
)
async def test_a_call_that_is_not_wanted_is_refused_with_the_reason_and_leaves_nothing(
    url: str, answer: Any, told: str
):
    app = make(url)
    door = Door(app, answer)
    async with app:
        with pytest.raises(CallRefused, match=told) as refused:
            await app.start_call("call-1", idempotency_key="k")
        assert not refused.value.final
        assert (app.instance.used, await state_of(app, "call-1")) == (0, None)
        door.answer = None
        assert (await app.start_call("call-1", idempotency_key="k")).state == "active", "asked anew"


async def test_a_hook_that_hangs_refuses_in_good_time(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(oncall, "ANSWER_WITHIN_S", 0.01)
    app = make(url)

    @app.on_call
    async def admit(call: IncomingCall) -> bool:
        await asyncio.Event().wait()
        return True

    async with app:
        with pytest.raises(CallRefused, match="TimeoutError"):
            await app.start_call("call-1")


async def test_a_session_that_nobody_wants_goes_on_waiting_and_is_offered_ever_more_seldom(
    url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tenure, "FIRST_BACKOFF_S", 0.02)
    app = make(url, slots=1)
    door = Door(app, lambda call: call.call_id == "call-1" or "not this one")
    async with app:
        await app.start_call("call-1")
        door.answer = True
        assert (await app.start_call("call-2", {"room": 8})).state == "pending"
        door.answer = lambda call: "not this one"
        before = len(door.asked)
        await app.end_call("call-1")
        await eventually(lambda: len(door.asked) > before + 2, 10)
        offered = door.asked[-1]
        assert (offered.call_id, offered.metadata, offered.cause) == ("call-2", {"room": 8}, "created")
        assert offered.free_slots == 1
        reasons = [event.reason for event in await app._store.history("call-2")]
        assert "refused: not this one" in reasons
        door.answer = True
        await eventually(lambda: state_of(app, "call-2"), 10, until=lambda state: state == "active")


async def test_a_takeover_can_be_told_from_a_new_call(url: str):
    heir = make(url)
    door = Door(heir)
    async with heir:
        async with make(url, watchdog=False) as app:
            answer = await app.start_call("call-1")
            assert answer.owner == app.instance.instance_id
        await eventually(lambda: door.asked, 10)
        await eventually(lambda: state_of(heir, "call-1"), 10, until=lambda state: state == "active")
    assert [call.cause for call in door.asked] == ["handoff"]


def test_an_app_has_one_hook_and_it_is_a_coroutine_function(url: str):
    app = make(url)
    with pytest.raises(TypeError, match="async def"):
        app.on_call(lambda call: True)  # type: ignore[arg-type,return-value]
    Door(app)
    with pytest.raises(TypeError, match="already"):
        Door(app)


# -- accounts --------------------------------------------------------------------------------------


def limiter_of(app: MediaApp) -> StreamLimiter:
    """Return a concurrency service over the store of an app, as another process would have it."""
    return StreamLimiter(app.settings, store=app._store)


async def active_of(app: MediaApp, account: str = "anna") -> int:
    return (await limiter_of(app).list(account)).active


async def test_an_account_has_as_many_calls_as_its_limit_of_streams_and_an_ended_one_frees_its_place(
    url: str,
):
    async with make(url, stream_limit=1) as app:
        first = await app.start_call("call-1", {"room": 7}, account="anna", idempotency_key="k")
        with pytest.raises(StreamRefused) as refused:
            await app.start_call("call-2", account="anna")
        assert (refused.value.limit, refused.value.active) == (1, 1)
        assert [one.metadata for one in refused.value.conflicts] == [{"callId": "call-1"}]
        assert await state_of(app, "call-2") is None
        assert (await app.start_call("call-3", account="bert")).state == "active"
        assert await app.start_call("call-1", {"room": 7}, account="anna", idempotency_key="k") == first
        assert (await app.start_call("call-1", account="anna")).session_id == first.session_id
        assert await active_of(app) == 1
        await app.end_call("call-1")
        await eventually(lambda: active_of(app), 5, until=lambda active: active == 0)
        assert (await app.start_call("call-2", account="anna")).state == "active"


async def test_a_stream_of_a_player_counts_beside_the_calls_of_the_account(url: str):
    async with make(url, stream_limit=1) as app:
        await limiter_of(app).start("anna", "tv")
        with pytest.raises(StreamRefused):
            await app.start_call("call-1", account="anna")


async def test_a_stream_that_is_ended_by_its_code_ends_the_call_with_the_reason(url: str):
    async with make(url, stream_limit=1, stream_ttl=2, stream_heartbeat_interval=0.05) as app:
        await app.start_call("call-1", account="anna")
        limiter = limiter_of(app)
        with pytest.raises(StreamRefused) as refused:
            await limiter.start("anna", "tv")
        codes = [one.termination_code for one in refused.value.conflicts]
        await limiter.start("anna", "tv", terminate=codes)
        await eventually(lambda: state_of(app, "call-1"), 5, until=lambda state: state == "cancelled")
        assert "taken over by device tv" in (await app._store.history("call-1"))[-1].reason
        assert await active_of(app) == 1, "the one that took its place"


async def test_the_next_owner_keeps_the_place_of_a_call_and_frees_it_in_the_end(url: str):
    async with make(url, stream_limit=1, stream_ttl=1, stream_heartbeat_interval=0.1) as heir:
        settings = {"stream_limit": 1, "stream_ttl": 1, "stream_heartbeat_interval": 0.1}
        async with make(url, watchdog=False, **settings) as app:
            answer = await app.start_call("call-1", account="anna")
            assert answer.owner == app.instance.instance_id
        await eventually(lambda: state_of(heir, "call-1"), 10, until=lambda state: state == "active")
        before = (await limiter_of(heir).list("anna")).streams
        expires = before[0].expires_at
        await eventually(
            lambda: limiter_of(heir).list("anna"),
            5,
            until=lambda found: found.streams[0].expires_at > expires,
        )
        assert (await limiter_of(heir).list("anna")).streams[0].started_at == before[0].started_at
        await heir.end_call("call-1")
        await eventually(lambda: active_of(heir), 5, until=lambda active: active == 0)


async def test_a_call_that_is_not_made_after_all_gives_its_place_back_and_may_come_again(url: str):
    async with make(url, slots=1, max_pending=0, stream_limit=1) as app:
        await app.start_call("call-1")
        with pytest.raises(QueueFull):
            await app.start_call("call-2", account="anna", idempotency_key="k")
        assert await active_of(app) == 0
        await app.end_call("call-1")
        await eventually(lambda: app.instance.used == 0, 5)
        assert (await app.start_call("call-2", account="anna", idempotency_key="k")).state == "active"
        assert await active_of(app) == 1


async def test_a_call_that_waits_keeps_its_place_and_frees_it_if_it_is_ended_before_it_ran(url: str):
    async with make(url, slots=1, stream_ttl=1, stream_heartbeat_interval=0.05) as app:
        await app.start_call("call-1")
        assert (await app.start_call("call-2", account="anna")).state == "pending"
        expires = (await limiter_of(app).list("anna")).streams[0].expires_at
        await eventually(
            lambda: limiter_of(app).list("anna"), 5, until=lambda found: found.streams[0].expires_at > expires
        )
        await app.end_call("call-2")
        await eventually(lambda: active_of(app), 5, until=lambda active: active == 0)


async def test_an_attempt_that_is_tried_again_keeps_its_place_and_the_last_one_frees_it(url: str):
    seen: list[int] = []
    app = MediaApp(slots=3, redis=url, lease_ttl=3, retention=60, max_attempts=2, stream_limit=1)

    @app.session
    async def fail(session: Session) -> None:
        seen.append(await active_of(app))
        raise ValueError("cannot go on")

    async with app:
        await app.start_call("call-1", account="anna")
        await eventually(lambda: state_of(app, "call-1"), 10, until=lambda state: state == "failed")
        await eventually(lambda: active_of(app), 5, until=lambda active: active == 0)
    assert seen == [1, 1]


async def test_the_hook_is_told_the_account(url: str):
    app = make(url)
    door = Door(app)
    async with app:
        await app.start_call("call-1", account="anna")
    assert [call.account for call in door.asked] == ["anna"]
