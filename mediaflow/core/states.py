"""The states of a session as Redis holds them, and every step between them.

A script of ``store/lua`` makes each step, in one piece with the events that it appends to the log. Which step is made
the script decides; the table says which there are at all. Nothing else ever happens to a session, but that Redis loses
what it was told. The diagram in ARCHITECTURE.md is drawn from the table, and tests hold it against the scripts.

Theory of operation: the world is told one of :data:`SessionState`. Inside one distinction more is made: an *offered*
session is active for everybody who asks, and has an owner, a fence and a short lease, but does not run until that
owner has accepted it. Whoever was the owner when a lease lapsed may still speak up, until another has taken over: hence
the steps by which a session that is pending, or was offered anew, goes on or ends as though nothing had been.
*absent* is a session that Redis does not know.
"""

from typing import Literal, NamedTuple

SessionState = Literal["active", "pending", "completed", "failed", "cancelled", "yielded"]
"""What the contract calls the state of a session."""

Stage = Literal["absent", "pending", "offered", "active", "completed", "failed", "cancelled", "yielded"]
"""A state, with what only the scripts tell apart."""

LIVE: tuple[Stage, ...] = ("pending", "offered", "active")
ENDED: tuple[Stage, ...] = ("completed", "failed", "cancelled", "yielded")

NOTICE = "session.lost"
"""The one event that is no step: an owner heard that the session is another's by now, or has ended."""


class Step(NamedTuple):
    """One way from a stage to another, or to the same under another owner or fence.

    Attributes:
        source: Where the session was.
        target: Where it is then.
        script: The script that makes the step, as its file is called.
        events: What it appends to the log about the session, all of it in this order.
        when: What has happened, in a few words.
    """

    source: Stage
    target: Stage
    script: str
    events: tuple[str, ...]
    when: str


def _from_each(
    sources: tuple[Stage, ...], target: Stage, script: str, event: str, when: str
) -> tuple[Step, ...]:
    return tuple(Step(source, target, script, (event,), when) for source in sources)


STEPS: tuple[Step, ...] = (
    Step(
        "absent",
        "active",
        "create",
        ("session.created", "session.activated"),
        "asked for, and a slot is free",
    ),
    Step(
        "absent", "pending", "create", ("session.created", "session.pending"), "asked for, and none is free"
    ),
    Step("pending", "offered", "assign", (), "given to an instance"),
    *_from_each(("offered", "pending"), "active", "accept", "session.activated", "taken up, or tried again"),
    *_from_each(
        ("offered", "pending"), "active", "accept", "session.takeover", "taken up: its owner is gone"
    ),
    *_from_each(("offered", "pending"), "active", "accept", "session.handoff", "taken up: it was given away"),
    Step("active", "active", "renew", (), "under a new fence"),
    *_from_each(
        ("offered", "pending"), "active", "renew", "session.activated", "its last owner was only late"
    ),
    *_from_each(
        LIVE, "active", "renew", "session.readopted", "Redis was rolled back: the newer owner says so"
    ),
    Step("absent", "active", "readopt", ("session.readopted",), "Redis had forgotten it"),
    *_from_each(LIVE, "active", "readopt", "session.readopted", "Redis was rolled back, likewise"),
    *_from_each(
        LIVE, "pending", "relinquish", "session.pending", "refused, given away, or its attempt failed"
    ),
    *_from_each(LIVE, "failed", "relinquish", "session.failed", "its last attempt failed"),
    *_from_each(
        ("active", "offered"), "pending", "sweep", "session.pending", "its lease or its owner is over"
    ),
    Step("active", "failed", "sweep", ("session.failed",), "parked: it may be what kills its owners"),
    *_from_each(LIVE, "completed", "complete", "session.completed", "its coroutine returned"),
    *_from_each(LIVE, "yielded", "complete", "session.yielded", "it returned, beside a senior sibling"),
    *_from_each(LIVE, "yielded", "renew", "session.yielded", "a senior sibling runs"),
    Step("pending", "yielded", "assign", ("session.yielded",), "a sibling runs"),
    *_from_each(LIVE, "cancelled", "cancel", "session.cancelled", "its call was ended"),
    *_from_each(LIVE, "cancelled", "complete", "session.cancelled", "a sibling completed its call"),
    *(Step(source, "absent", "create", (), "forgotten: the retention is over") for source in ENDED),
)


def diagram() -> str:
    """Draw the table as a Mermaid state diagram; each arrow bears the scripts that make its step.

    Ends are drawn from all live stages together, also where a script makes the step from some of them only, and what
    leads from a stage to itself is left out: the picture is for an overview, the table is exact.
    """
    scripts: dict[tuple[str, str], list[str]] = {}
    for step in STEPS:
        if step.target in ("absent", step.source):
            continue
        source = "live" if step.target in ENDED else "[*]" if step.source == "absent" else step.source
        label = scripts.setdefault((source, step.target), [])
        if step.script not in label:
            label.append(step.script)
    arrows = {edge: f"{edge[0]} --> {edge[1]}: {', '.join(label)}" for edge, label in scripts.items()}
    return "\n".join(
        [
            "stateDiagram-v2",
            "    state live {",
            *(f"        {arrow}" for (source, _), arrow in arrows.items() if source != "live"),
            "    }",
            "    [*] --> live",
            *(f"    {arrow}" for (source, _), arrow in arrows.items() if source == "live"),
            *(f"    {state} --> [*]" for state in ENDED),
        ]
    )
