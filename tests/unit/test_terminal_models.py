"""What the commands make of events: a drain's outcome, who owned a call for how long, and what `top` shows."""

import io

import pytest
from rich.console import Console

from mediaflow.api.messages import CallView, EventView, InstanceView, SessionView
from mediaflow.cli import drawing
from mediaflow.cli.board import Board
from mediaflow.cli.farewell import Farewell
from mediaflow.cli.picture import Picture, draw, shares
from mediaflow.cli.stints import stints


def event(name, session="s1", instance="a", fence=1, reason="", at_s=0):
    return EventView(
        id=f"{at_s}-0-0",
        at=f"2026-01-01T00:00:{at_s:02d}.000Z",
        event=name,
        call_id=f"call-{session}" if session else None,
        session_id=session or None,
        instance_id=instance or None,
        fence=fence or None,
        reason=reason or None,
    )


def instance(name, state="ready", slots=10, used=0):
    return InstanceView(
        instance_id=name, address="h:1", slots=slots, used=used, state=state, heartbeat_age_ms=100
    )


def call(session="s1", state="active", owner="a", fence=1, attempt=1):
    view = SessionView(
        session_id=session,
        state=state,
        owner=owner,
        fence=fence,
        attempt=attempt,
        lease_remaining_ms=9000,
        details={},
        created_at="2026-01-01T00:00:00.000Z",
        end_reason=None,
    )
    return CallView(call_id=f"call-{session}", state=state, sessions=[view])


# -- farewell ----------------------------------------------------------------------------------


def told(*events):
    farewell = Farewell("a")
    for one in events:
        farewell.observe(one)
    return farewell


def test_a_session_that_was_handed_off_is_counted_with_its_next_owner():
    farewell = told(
        event("instance.draining", ""),
        event("session.pending", reason="drained"),
        event("session.pending", "s2", reason="drained"),
        event("session.handoff", instance="b", fence=2),
        event("instance.left", "", reason="drained"),
    )
    assert farewell.left
    assert (farewell.handed_off, farewell.waiting, farewell.ended) == (2, 1, 0)
    assert farewell.taken_up == {"b": 1}


def test_what_others_do_meanwhile_is_not_the_drained_instance_s():
    farewell = told(
        event("session.pending", instance="b", reason="drained"),
        event("session.completed", "s2", instance="b"),
        event("instance.left", "", instance="b"),
        event("session.pending", "s3", reason="refused: draining"),
    )
    assert not farewell.left
    assert (farewell.handed_off, farewell.ended) == (0, 0)


def test_a_session_that_ends_of_itself_is_not_handed_off():
    farewell = told(event("session.completed"), event("session.pending", "s2", reason="drained"))
    assert (farewell.ended, farewell.handed_off, farewell.gone) == (1, 1, 2)
    farewell.observe(event("session.cancelled", "s2", instance=""))
    assert (farewell.ended, farewell.waiting) == (1, 0)


@pytest.mark.parametrize(
    ("before", "listed", "left"),
    [
        ([], [instance("b")], True),
        ([], [instance("a", "draining")], False),
        ([], [instance("a")], False),  # its last heartbeat was before the drain
        ([event("instance.draining", "")], [instance("a")], True),  # its successor
    ],
)
def test_an_instance_that_says_no_farewell_is_missed_in_the_list(before, listed, left):
    farewell = told(*before)
    farewell.look(listed)
    assert farewell.left is left


# -- stints ------------------------------------------------------------------------------------


def test_a_history_tells_who_owned_the_session_for_how_long_and_why_it_moved():
    found = stints(
        [
            event("session.created"),
            event("session.activated", reason="created"),
            event("session.pending", reason="process died", at_s=5),
            event("session.takeover", instance="b", fence=2, reason="takeover", at_s=6),
            event("session.cancelled", instance="b", fence=2, reason="cancelled over HTTP", at_s=20),
        ]
    )
    assert [(one.instance_id, one.fence, one.began, one.duration_ms, one.ended) for one in found] == [
        ("a", 1, "created", 5000, "process died"),
        ("b", 2, "takeover", 14_000, "cancelled over HTTP"),
    ]


def test_a_stint_that_goes_on_has_no_end_and_siblings_are_told_apart():
    found = stints(
        [
            event("session.activated"),
            event("session.readopted", "s2", "b", 5, "the store had forgotten it", at_s=2),
            event("session.readopted", "s2", "b", 7, "the store was rolled back", at_s=4),
        ]
    )
    assert [(one.session_id, one.fence, one.duration_ms) for one in found] == [
        ("s1", 1, None),
        ("s2", 5, 2000),
        ("s2", 7, None),
    ]


# -- board -------------------------------------------------------------------------------------


def board(*calls):
    made = Board()
    made.replace(calls, complete=True)
    return made


def rows(shown):
    return [(row.session_id, row.state, row.owner, row.fence) for row in shown.first(10)]


def test_pending_sessions_come_first_and_then_what_changed_last():
    shown = board(call("s1"), call("s2"), call("s3", "pending", None, 0))
    shown.observe(event("session.takeover", "s2", "b", 2))
    assert rows(shown) == [("s3", "pending", None, 0), ("s2", "active", "b", 2), ("s1", "active", "a", 1)]


def test_events_begin_move_and_end_sessions():
    shown = board()
    shown.observe(event("session.created", fence=1))
    shown.observe(event("session.activated", fence=1))
    shown.observe(event("session.pending", fence=1, reason="lease expired"))
    assert rows(shown) == [("s1", "pending", None, 1)]
    shown.observe(event("session.takeover", instance="b", fence=2))
    shown.observe(event("session.pending", fence=1))
    assert rows(shown) == [("s1", "active", "b", 2)]
    shown.observe(event("session.completed", instance="b", fence=2))
    assert len(shown) == 0
    assert len(shown.events) == 6


def test_what_changed_while_all_calls_were_read_is_not_undone_by_what_was_read():
    shown = board(call("s1"), call("s2"))
    shown.begin_reading()
    shown.observe(event("session.takeover", "s1", "b", 2))
    shown.observe(event("session.completed", "s2"))
    shown.observe(event("session.activated", "s4", "c", 3))
    shown.replace([call("s1"), call("s2"), call("s3")], complete=True)
    assert sorted(rows(shown)) == [
        ("s1", "active", "b", 2),
        ("s3", "active", "a", 1),
        ("s4", "active", "c", 3),
    ]


def test_a_call_that_was_read_with_an_older_fence_changes_nothing():
    shown = board(call("s1", owner="b", fence=5))
    shown.look(call("s1", owner="a", fence=4))
    assert rows(shown) == [("s1", "active", "b", 5)]
    shown.look(call("s1", "completed", None, 5))
    assert len(shown) == 0


# -- picture -----------------------------------------------------------------------------------


def drawn(picture, width, height):
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    console.print(draw(picture, width, height))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (60, 12), (40, 8)])
def test_ten_thousand_sessions_fit_on_any_terminal_and_what_is_not_shown_is_counted(width, height):
    shown = board(*(call(f"s{number}", attempt=2) for number in range(10_000)))
    for number in range(50):
        shown.observe(event("session.handoff", f"s{number}", "instance-with-a-long-name" * 3, 2))
    picture = Picture("http://h:1", [instance(f"i{n}", used=n % 10) for n in range(40)], shown, "")
    lines = drawn(picture, width, height)
    assert len(lines) <= max(height, 13)
    more = next(line for line in lines if "more session" in line)
    assert int(more.split()[2].replace(",", "")) > 9_900


def test_trouble_and_emptiness_are_said():
    text = "\n".join(drawn(Picture("http://h:1", [], board(), "connection refused"), 80, 24))
    assert "not up to date: connection refused" in text
    assert "mediaflow worker" in text
    assert "no live session" in text


def test_calls_that_were_not_read_are_admitted():
    shown = Board()
    shown.replace([call()], complete=False)
    assert "more calls than are read" in "\n".join(drawn(Picture("u", [instance("a")], shown), 80, 24))


def test_every_part_gets_a_line_and_none_more_than_there_is_room():
    for height in range(1, 80):
        found = shares(height, 100, 10_000, 200)
        assert min(found) >= 1
        assert sum(found) <= max(3, height - 10)
    assert shares(None, 1, 10_000, 0) == (1, 50, 0)
    assert shares(40, 100, 0, 0).instances == 30


@pytest.mark.parametrize(
    ("ms", "text"),
    [(-5, "0.0 s"), (9_940, "9.9 s"), (42_000, "42 s"), (59_700, "1 m 0 s"), (200_000, "3 m 20 s"),
     (7_500_000, "2 h 5 m"), (273_600_000, "3 d 4 h")],
)  # fmt: skip
def test_durations_are_read_at_a_glance(ms, text):
    assert drawing.duration(ms) == text
