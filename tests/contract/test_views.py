"""What anyone may read: calls, their lists and histories, and the feed of events."""

import pytest
from harness.laboratory import JUNIOR, SENIOR

from mediaflow.store import EventPosition

# -- describe and calls --------------------------------------------------------------------------


async def test_a_call_that_nobody_made_is_not_there(lab):
    assert await lab.store.describe("nobody") is None


async def test_a_call_is_shown_with_its_session(lab):
    claim = await lab.hold()
    found = await lab.store.describe("call")
    assert (found.call_id, found.state) == ("call", "active")
    (session,) = found.sessions
    assert (session.session_id, session.state, session.fence) == (claim.session_id, "active", claim.fence)
    assert (session.instance_id, session.incarnation, session.attempt) == ("senior", 1, 1)
    assert (session.details, session.end_reason) == (b"{}", "")
    assert 2_000 < session.lease_remaining_ms <= 3_000
    assert session.created_at_ms > 1_600_000_000_000


async def test_a_swept_session_is_shown_without_an_owner(lab):
    claim = await lab.hold()
    await lab.orphan(claim)
    found = await lab.store.describe("call")
    (session,) = found.sessions
    assert (found.state, session.instance_id, session.lease_remaining_ms) == ("pending", "", 0)


async def test_the_state_of_a_call_is_that_of_the_newest_session_that_did_not_yield(lab):
    senior, junior = await lab.siblings()
    await lab.store.renew(JUNIOR, junior)
    fence = (await lab.store.renew(SENIOR, senior)).fence or senior.fence
    assert (await lab.store.complete(SENIOR, senior._replace(fence=fence))).status == "written"
    found = await lab.store.describe("call")
    assert [session.state for session in found.sessions] == ["completed", "yielded"]
    assert found.state == "completed"


async def walk(lab, **options):
    pages, cursor = [], None
    while True:
        page = await lab.store.calls(cursor=cursor, **options)
        pages.append([call.call_id for call in page.calls])
        cursor = page.cursor
        if cursor is None:
            return pages
        assert len(pages) < 50


async def test_a_list_of_calls_names_each_once_page_by_page(lab):
    names = {f"call-{number}" for number in range(25)}
    for name in names:
        await lab.queue(name)
    pages = await walk(lab, state=None, limit=4)
    assert all(len(page) <= 4 for page in pages)
    listed = [name for page in pages for name in page]
    assert len(listed) == 25
    assert set(listed) == names


async def test_a_list_of_calls_is_filtered_by_state(lab):
    for number in range(9):
        call_id = f"call-{number}"
        claim = await (lab.hold(SENIOR, call_id) if number % 3 else lab.queue(call_id))
        if number % 3 == 2:
            await lab.store.complete(SENIOR, claim)
    listed = {}
    for state in ("active", "pending", "completed", "failed"):
        listed[state] = sorted(name for page in await walk(lab, state=state, limit=2) for name in page)
    assert listed == {
        "active": ["call-1", "call-4", "call-7"],
        "pending": ["call-0", "call-3", "call-6"],
        "completed": ["call-2", "call-5", "call-8"],
        "failed": [],
    }


@pytest.mark.parametrize(("state", "kept"), [("active", 3), ("pending", 2)])
async def test_who_lists_live_calls_does_not_read_all_that_ended_before(lab, monkeypatch, state, kept):
    monkeypatch.setattr("mediaflow.store.calls.SCANNED_CALLS", 8)
    for number in range(12):
        await lab.store.complete(SENIOR, await lab.hold(SENIOR, f"ended-{number}"))
    for number in range(3):
        await lab.hold(SENIOR, f"active-{number}")
    for number in range(2):
        await lab.queue(f"pending-{number}")
    (page,) = await walk(lab, state=state, limit=10)
    assert sorted(page) == [f"{state}-{number}" for number in range(kept)]


async def test_calls_made_meanwhile_do_not_disturb_a_walk_through_a_list(lab):
    for number in range(10):
        await lab.queue(f"m-{number}")
    first = await lab.store.calls(state=None, cursor=None, limit=5)
    for number in range(10):
        await lab.queue(f"a-{number}")
        await lab.queue(f"z-{number}")
    seen, cursor = [call.call_id for call in first.calls], first.cursor
    while cursor is not None:
        page = await lab.store.calls(state=None, cursor=cursor, limit=5)
        seen += [call.call_id for call in page.calls]
        cursor = page.cursor
    assert len(seen) == len(set(seen))
    assert {f"m-{number}" for number in range(10)} <= set(seen)


@pytest.mark.parametrize("cursor", ["nonsense", "$$$", "OTk5L2E", "LTEvYQ", "é", "A"])
async def test_a_cursor_that_no_page_gave_is_refused(lab, cursor):
    with pytest.raises(ValueError, match="cursor"):
        await lab.store.calls(state=None, cursor=cursor, limit=5)


async def test_pending_sessions_of_all_partitions_are_counted(lab):
    for number in range(12):
        await lab.queue(f"call-{number}")
    await lab.hold(SENIOR, "held")
    assert await lab.store.pending() == 12


# -- history and events --------------------------------------------------------------------------


async def test_the_history_of_a_call_tells_what_happened_in_order(lab):
    claim = await lab.hold()
    await lab.queue("another")
    claim = await lab.move(claim, JUNIOR)
    await lab.store.release(JUNIOR, claim, "drain")
    claim = await lab.give(claim, SENIOR)
    await lab.store.complete(SENIOR, claim)
    history = await lab.store.history("call")
    assert [(event.event, event.instance_id) for event in history] == [
        ("session.created", "senior"),
        ("session.activated", "senior"),
        ("session.pending", "senior"),
        ("session.takeover", "junior"),
        ("session.pending", "junior"),
        ("session.handoff", "senior"),
        ("session.completed", "senior"),
    ]
    assert [event.reason for event in history[2:5]] == ["lease expired", "takeover", "drain"]
    assert {event.call_id for event in history} == {"call"}
    assert {event.session_id for event in history} == {claim.session_id}
    assert history[-1].fence == claim.fence
    assert [event.at_ms for event in history] == sorted(event.at_ms for event in history)


async def test_a_call_without_events_has_an_empty_history(lab):
    assert await lab.store.history("nobody") == []


async def test_whoever_starts_at_the_tail_sees_only_what_comes(lab):
    await lab.hold(SENIOR, "before")
    position = await lab.store.tail()
    nothing = await lab.store.events(position)
    assert (nothing.events, nothing.reset) == ([], False)
    await lab.hold(SENIOR, "after")
    batch = await lab.store.events(nothing.position)
    assert {event.call_id for event in batch.events} == {"after"}


async def test_events_of_all_partitions_come_in_order_and_in_batches_without_a_gap(lab):
    start = EventPosition(("0-0",) * (lab.store.partitions + 1))
    for number in range(12):
        await lab.hold(SENIOR, f"call-{number}")
    seen, position = [], start
    while True:
        batch = await lab.store.events(position, limit=5)
        assert len(batch.events) <= 5
        if not batch.events:
            break
        seen += batch.events
        position = batch.position
    ids = [event.event_id for event in seen]
    assert len(ids) == len(set(ids)) == 24
    orders = [tuple(int(part) for part in one.split("-")) for one in ids]
    assert orders == sorted(orders)


async def test_whoever_resumes_from_an_event_misses_none_and_sees_none_twice(lab):
    start = EventPosition(("0-0",) * (lab.store.partitions + 1))
    for number in range(12):
        await lab.hold(SENIOR, f"call-{number}")
    everything = (await lab.store.events(start)).events
    for index, event in enumerate(everything):
        position = await lab.store.position_of(event.event_id)
        rest = (await lab.store.events(position)).events
        assert [one.event_id for one in rest] == [one.event_id for one in everything[index + 1 :]]


@pytest.mark.parametrize("event_id", ["", "nonsense", "1-2", "1-2-999", "1-2-3-4", "-1-2-0", "١-2-0"])
async def test_an_event_id_that_no_event_bore_is_refused(lab, event_id):
    with pytest.raises(ValueError, match="event id"):
        await lab.store.position_of(event_id)


async def test_whoever_asks_for_events_that_are_gone_is_told_so(lab):
    await lab.hold()
    partition = lab.keys.partition_of("call")
    first = (await lab.store.history("call"))[0]
    position = await lab.store.position_of(first.event_id)
    log = lab.keys.log(partition)
    with lab.raw.pipeline(transaction=False) as pipeline:
        for _ in range(10_050):
            pipeline.xadd(log, {"event": "filler"})
        pipeline.xtrim(log, maxlen=10_000, approximate=False)
        pipeline.execute()
    batch = await lab.store.events(position, limit=3)
    assert batch.reset
    assert not (await lab.store.events(await lab.store.tail())).reset
