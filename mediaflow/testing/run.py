"""One run: the plan of a seed carried out, then everything heals, and the checkers have their say."""

import gc
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from structlog.testing import capture_logs

from mediaflow.runtime.session import Handler
from mediaflow.store.keys import Keyspace
from mediaflow.testing.audit import Audit
from mediaflow.testing.checkers import check_all
from mediaflow.testing.cluster import SETTINGS, Cluster
from mediaflow.testing.director import Director
from mediaflow.testing.handlers import Repertoire
from mediaflow.testing.history import AnyHappening, Final, Terms, Violation
from mediaflow.testing.loop import Stuck, VirtualLoop
from mediaflow.testing.plan import Plan, draw

CRASH_BOUND_S = 1.0
"""G6: what a dead process owned runs elsewhere within so long."""

LONGEST_S = 3600.0
"""Virtual time that a run may take."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a seed: no violations is what is hoped for. ``logs``: what the product itself had to say."""

    seed: int
    plan: Plan | None
    history: list[AnyHappening]
    violations: list[Violation]
    logs: list[dict[str, Any]]


def run_seed(seed: int, engine: str = "subset") -> Verdict:
    """Carry out a seed's plan; the same seed gives the same history, whatever the engine."""
    return run_plan(draw(seed), engine=engine)


def run_plan(
    plan: Plan,
    make_handler: Callable[[Cluster], Handler] = lambda cluster: Repertoire(cluster.recorder),
    *,
    engine: str = "subset",
) -> Verdict:
    """Carry out a plan, with the handler that ``make_handler`` returns on all instances."""

    async def carry_out(cluster: Cluster) -> None:
        await Director(cluster, plan, make_handler(cluster)).run()
        conclude(cluster)

    return _run(plan.seed, plan, carry_out, engine)


def run_scenario(
    seed: int, scenario: Callable[[Cluster], Coroutine[Any, Any, None]], *, engine: str = "subset"
) -> Verdict:
    """Carry out what a test does with a cluster of its own making; ``seed`` decides all that is left to chance."""
    return _run(seed, None, scenario, engine)


def _run(
    seed: int, plan: Plan | None, play: Callable[[Cluster], Coroutine[Any, Any, None]], engine: str
) -> Verdict:
    loop = VirtualLoop(seed)
    settings = SETTINGS
    if plan is not None:
        settings = msgspec.structs.replace(settings, on_network_partition=plan.on_network_partition)
    cluster = Cluster(loop, seed, settings, engine)
    terms = Terms(
        lease_ttl_s=settings.lease_ttl,
        accept_ttl_s=settings.accept_ttl,
        max_attempts=settings.max_attempts,
        max_takeovers=settings.max_takeovers,
        retention_s=settings.retention,
        crash_bound_s=CRASH_BOUND_S,
    )
    gc.disable()  # a collection in the middle would be the only thing here that no seed decides
    try:
        with capture_logs() as captured:
            try:
                stuck = _played(loop, play(cluster))
                logs = [dict(entry) for entry in captured]
            finally:
                loop.close()
    finally:
        gc.enable()
        gc.collect(1)
    history = cluster.recorder.history
    violations = stuck or check_all(history, terms)
    violations += [_unsound(cluster.now_s(), context) for context in loop.complaints]
    violations += [_unsound(cluster.now_s(), entry) for entry in logs if _is_complaint(entry)]
    return Verdict(seed=seed, plan=plan, history=history, violations=violations, logs=logs)


def _played(loop: VirtualLoop, play: Coroutine[Any, Any, None]) -> list[Violation]:
    try:
        loop.run(play, until_s=LONGEST_S)
    except Stuck as error:
        return [Violation(guarantee="sound", at_s=0.0, message=str(error))]
    return []


EXPECTED_ERRORS = {"session.coroutine_will_not_stop", "instance.superseded"}
"""What the product may say at level error because the plan made it so."""


def _is_complaint(entry: dict[str, Any]) -> bool:
    return entry["log_level"] in ("critical", "error") and entry["event"] not in EXPECTED_ERRORS


def _unsound(at_s: float, found: Any) -> Violation:
    return Violation(
        guarantee="sound", at_s=at_s, message=f"{found.get('event') or found.get('message')}: {found}"
    )


def conclude(cluster: Cluster) -> None:
    """End the history with how everything is now."""
    running: dict[str, list[str]] = {}
    alive = {name: host for name, host in cluster.hosts.items() if host.in_service}
    sessions = {name: host.watched.running if host.watched else [] for name, host in alive.items()}
    for name in sorted(sessions):
        for session in sessions[name]:
            running.setdefault(session.id, []).append(name)
    keyspace = Keyspace(cluster.settings.namespace, cluster.settings.partitions)
    audit = Audit(cluster.redis.engine, keyspace)
    cluster.recorder.add(
        Final(
            at_s=cluster.now_s(),
            calls=audit.final_calls({session_id: tuple(names) for session_id, names in running.items()}),
            slots={name: host.slots for name, host in alive.items()},
            running={name: len(of_host) for name, of_host in sessions.items()},
            stray_keys=audit.strays(),
        )
    )
    cluster.recorder.sealed = True
