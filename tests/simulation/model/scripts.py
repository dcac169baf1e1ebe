"""The scripts on one call: a model of mediaflow/store/lua/*.lua.

A function here is a script there, under the same name, with the same checks in the same order.
"""

from collections.abc import Callable

from simulation.model.partition import ACCEPT_TTL, LIVE, NOBODY, TTL, Record, name
from simulation.model.run import Asked, Run

Answer = tuple[str, int] | tuple[str, int, str]


def create(run: Run, asked: Asked) -> Answer:
    """create.lua; without a process it is queued."""
    if any(record is not None and record.state in LIVE for record in run.records):
        return "existing", 0
    session = asked.session
    if asked.process == NOBODY:
        run.add(session, pending=True)
        run.put(session, Record("pending", NOBODY, False, 0))
    else:
        run.add(session, lease=run.lease(TTL), own=run.bit(asked.process))
        run.put(session, Record("active", asked.process, True, run.next_fence()))
    run.clock = True
    return "created", run.records[session].fence


def accept(run: Run, asked: Asked) -> Answer:
    """accept.lua."""
    run.clock = True
    session, record = asked.session, run.records[asked.session]
    if record is None:
        return "unknown", 0
    if run.rules.accept_looks_at_the_owner and not run.owned_by(record, asked.process):
        return "lost", 0
    if run.rules.accept_looks_at_the_fence and record.fence != asked.fence:
        return "lost", 0
    broken = ""
    if record.fence != asked.fence:
        broken = (
            f"G3: {name(asked.process)} is let start session {session} under a fence that is not its newest"
        )
    run.add(session, lease=run.lease(TTL), own=run.bit(asked.process))
    if not record.accepted or record.state == "pending":
        run.put(session, record._replace(state="active", accepted=True))
        run.remove(session, pending=False)
    return "accepted", asked.fence, broken


def renew(run: Run, asked: Asked) -> Answer:
    """renew.lua; ``flag``: a new fence is wanted."""
    run.clock = True
    session, process, record = asked.session, asked.process, run.records[asked.session]
    if record is None:
        return "unknown", 0
    rolled_back = (
        record.state in LIVE and asked.fence > record.fence and run.rules.rollback_is_proven_by_fence
    )
    if not rolled_back and not run.owned_by(record, process):
        if not (run.rules.set_of_the_successor_stays and run.owned_by_a_successor(record, process)):
            run.remove(session, disown=run.bit(process))
        ended_here = record.state not in LIVE and record.owner == process
        return ("yielded" if record.state == "yielded" else "cancelled") if ended_here else "lost", 0
    winner = run.running_sibling(session, process)
    if winner != NOBODY:
        run.records[session] = record._replace(owner=process)
        run.finish(session, "yielded")
        run.remove(session, disown=run.bit(process))
        return "yielded", 0, run.broken_promise(session, winner, process)
    if rolled_back:
        run.fence = max(run.fence, asked.fence)
        record = record._replace(owner=process, accepted=False)
    if rolled_back or asked.flag or record.fence < run.fence:
        return "refenced", _hold(run, session, process, record, run.next_fence())
    broken = ""
    if record.state == "pending" and run.cells[session].relinquished[1] == record.fence:
        broken = f"G3: a late renewal of {name(process)} revives session {session}, which it had given up"
    _hold(run, session, process, record, record.fence)
    return ("refenced" if record.fence != asked.fence else "renewed"), record.fence, broken


def _hold(run: Run, session: int, process: int, record: Record, fence: int) -> int:
    run.add(session, lease=run.lease(TTL), own=run.bit(process))
    if not (record.state == "active" and record.accepted and record.fence == fence):
        run.put(session, Record("active", process, True, fence))
        run.remove(session, pending=False)
    return fence


def readopt(run: Run, asked: Asked) -> Answer:
    """readopt.lua"""
    session, process, fence = asked.session, asked.process, asked.fence
    record = run.records[session]
    if record is not None:
        if run.owned_by(record, process) and record.fence >= fence:
            return "there", record.fence
        if run.rules.tombstones_stay and record.state not in LIVE:
            return "lost", 0
        if record.fence >= fence:
            return "lost", 0
    elif session < run.ended_by and run.rules.ended_by_is_kept:
        return "lost", 0
    run.fence = max(run.fence, fence)
    run.add(session, lease=run.lease(TTL), own=run.bit(process))
    run.put(session, Record("active", process, True, run.next_fence()))
    run.remove(session, pending=False)
    run.clock = True
    return "readopted", run.records[session].fence


def relinquish(run: Run, asked: Asked) -> Answer:
    """relinquish.lua; ``flag``: an assignment is refused, else a session is released."""
    run.clock = True
    session, process, fence = asked.session, asked.process, asked.fence
    record, operation = run.records[session], ("refuse" if asked.flag else "release", fence)
    if record is None:
        return "unknown", 0
    held = run.owned_by(record, process) and record.fence == fence
    if run.cells[session].relinquished == operation and not held:
        return "written", 0
    if record.fence < fence:
        return "unknown", 0
    if not run.owned_by(record, process):
        return "lost", 0
    if record.fence > fence:
        return ("lost", 0) if asked.flag else ("refenced", record.fence)
    run.remove(session, disown=run.bit(process))
    run.add(session, relinquished=operation, pending=True)
    owner = NOBODY if run.rules.relinquished_has_no_owner else process
    run.put(session, Record("pending", owner, False, fence))
    run.remove(session, lease=None)
    return "written", 0


def complete(run: Run, asked: Asked) -> Answer:
    """complete.lua, asked with the keys of all live siblings."""
    session, process, fence = asked.session, asked.process, asked.fence
    record = run.records[session]
    if record is None:
        return "unknown", 0
    if record.owner == process and record.fence == fence and record.state in ("completed", "yielded"):
        return ("written" if record.state == "completed" else "yielded"), 0
    if record.state not in LIVE:
        return "lost", 0
    if fence > record.fence:
        return "unknown", 0
    if not run.owned_by(record, process):
        return "lost", 0
    if fence < record.fence:
        return "refenced", record.fence
    run.clock = True
    run.remove(session, disown=run.bit(process))
    winner = run.running_sibling(session, record.owner)
    if winner != NOBODY:
        run.finish(session, "yielded")
        return "yielded", 0, run.broken_promise(session, winner, record.owner)
    for sibling, other in enumerate(run.records):
        if sibling != session and other is not None and other.state in LIVE:
            run.finish(sibling, "cancelled")
            run.mark_ended(sibling)
    run.finish(session, "completed")
    run.mark_ended(session)
    return "written", 0


def cancel(run: Run, asked: Asked) -> Answer:
    """cancel.lua; ``flag``: the sessions that it names, as bits."""
    for session, record in enumerate(run.records):
        if asked.flag >> session & 1 and record is not None and record.state in LIVE:
            run.finish(session, "cancelled")
            run.mark_ended(session)
            run.clock = True
    return "cancelled", 0


def assign(run: Run, asked: Asked) -> Answer:
    """assign.lua; that a repeated operation tells again is a message that comes late."""
    run.clock = True
    session, process, record = asked.session, asked.process, run.records[asked.session]
    if record is None or record.state not in LIVE:
        run.add(session, lease=run.lease(0))
        run.remove(session, pending=False)
        return "skipped", 0
    if record.state != "pending":
        run.remove(session, pending=False)
        return "skipped", 0
    winner = run.running_sibling(session, None)
    if winner != NOBODY:
        run.finish(session, "yielded")
        return "yielded", 0, run.broken_promise(session, winner, None)
    fence = run.next_fence()
    run.add(session, lease=run.lease(ACCEPT_TTL), own=run.bit(process))
    run.put(session, Record("active", process, False, fence))
    run.remove(session, pending=False)
    return "assigned", fence


def sweep(run: Run, asked: Asked) -> Answer:
    """sweep.lua; ``process`` NOBODY: by leases; else what incarnations of its instance before ``flag`` own."""
    run.clock = True
    session, record = asked.session, run.records[asked.session]
    dead = None if asked.process == NOBODY else run.processes[asked.process]
    owner = run.processes[record.owner] if record is not None and record.owner != NOBODY else None
    newer = dead and owner and owner.instance == dead.instance and owner.incarnation >= asked.flag
    if dead and not newer:
        run.remove(session, disown=run.bit(asked.process))
    if record is None or record.state not in LIVE:
        run.remove(session, lease=None, pending=False)
        return "gone", 0
    if dead is not None:
        theirs = owner is not None and owner.instance == dead.instance
        is_over = theirs and (owner.incarnation < asked.flag or not run.rules.sweep_looks_at_the_incarnation)
    else:
        is_over = not run.has_live_lease(session) or not run.rules.sweep_looks_at_the_lease
    if record.state != "active" or not is_over:
        if record.state == "pending":
            run.remove(session, lease=None)
        return "kept", 0
    broken = ""
    if newer:
        broken = f"G3: the sweep of a dead process takes session {session} from the one that lives"
    run.add(session, pending=True)
    run.put(session, record._replace(state="pending"))
    run.remove(session, lease=None)
    return "swept", 0, broken


def tick(run: Run, asked: Asked) -> Answer:
    """tick.lua: lease time goes on."""
    del asked
    run.clock = True
    return "ticked", 0


def write(run: Run, asked: Asked) -> Answer:
    """write.lua: changes nothing that is modelled here, and records no clock."""
    record = run.records[asked.session]
    if record is None:
        return "unknown", 0
    if record.state not in LIVE:
        return "lost", 0
    if asked.fence > record.fence:
        return "unknown", 0
    if not run.owned_by(record, asked.process):
        return "lost", 0
    if asked.fence < record.fence and run.rules.write_looks_at_the_fence:
        return "refenced", record.fence
    return "written", 0


SCRIPTS: dict[str, Callable[[Run, Asked], Answer]] = {
    script.__name__: script
    for script in (create, accept, renew, readopt, relinquish, complete, cancel, assign, sweep, tick, write)
}
