"""What will be done to a system in one run: drawn from a seed, before anything runs.

Each run has its own mixture: most kinds of faults are left out of most runs, so that each also happens alone
(Groce et al. 2012, "Swarm testing"). First there are faults, then everything heals, and liveness is checked.
"""

import random
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from mediaflow.testing.wire import Weather

FAULTS_UNTIL_S = 18.0
SETTLE_S = 18.0
"""After healing: what was silent is noticed (10 s), leases and back-offs run out, and all that waits is placed."""

TORMENT_SETTLE_S = 6.0
"""Enough for somebody's handler to be taken over: a torment is to be quick."""

NAMES = ("ann", "bob", "cid", "dan")


class PlannedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A client: asks for a call, again and again with one key until it is answered, and may end it later."""

    at_s: float
    call_id: str
    metadata: dict[str, Any]
    end_at_s: float | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is done at a time: an action of the director, with its target."""

    at_s: float
    action: str
    target: str = ""
    detail: float = 0.0
    how: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run. ``hosts``: slots of each instance."""

    seed: int
    hosts: dict[str, int]
    watchdogs: int
    on_network_partition: str
    calls: tuple[PlannedCall, ...]
    steps: tuple[Step, ...]
    weather: Weather
    faults_until_s: float = FAULTS_UNTIL_S
    settle_s: float = SETTLE_S


def draw(seed: int) -> Plan:
    """Draw the plan of a seed."""
    rng = random.Random(f"plan {seed}")  # noqa: S311 - to be repeatable is what it is for
    hosts = {name: rng.randint(2, 6) for name in NAMES[: rng.randint(2, len(NAMES))]}
    families = [family for family in FAMILIES if rng.random() < 0.24] or [rng.choice(FAMILIES)]
    steps: list[Step] = []
    for family in families:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            steps.extend(family(rng, list(hosts)))
    return Plan(
        seed=seed,
        hosts=hosts,
        watchdogs=rng.choice((1, 1, 2)),
        on_network_partition=rng.choice(("keep", "keep", "stop")),
        calls=_calls(rng),
        steps=tuple(sorted(steps, key=lambda step: step.at_s)),
        weather=_weather(rng) if rng.random() < 0.35 else Weather(),
    )


def torment(seed: int, metadata: dict[str, Any], faults: Collection[str]) -> Plan:
    """Draw a plan for somebody's own handler: calls with the same metadata, and faults of these kinds only.

    Raises:
        ValueError: There is no such kind; :data:`TORMENTS` has them all.
    """
    if unknown := sorted(set(faults) - TORMENTS.keys()):
        raise ValueError(f"no fault is called {unknown[0]!r}: there are {', '.join(TORMENTS)}")
    rng = random.Random(f"torment {seed}")  # noqa: S311 - to be repeatable is what it is for
    hosts: dict[str, int] = dict.fromkeys(NAMES[:3], 5)
    steps: list[Step] = []
    for _ in range(rng.randint(1, 4)):
        steps.extend(TORMENTS[rng.choice(sorted(faults))](rng, list(hosts)))
    calls = tuple(
        PlannedCall(at_s=rng.uniform(0.2, 3.0), call_id=f"call-{number}", metadata=metadata)
        for number in range(rng.randint(1, 4))
    )
    return Plan(
        seed=seed,
        hosts=hosts,
        watchdogs=1,
        on_network_partition="keep",
        calls=calls,
        steps=tuple(sorted(steps, key=lambda step: step.at_s)),
        weather=Weather(),
        settle_s=TORMENT_SETTLE_S,
    )


def _calls(rng: random.Random) -> tuple[PlannedCall, ...]:
    calls: list[PlannedCall] = []
    for number in range(rng.randint(3, 9)):
        # Some names are asked for twice, so that sessions are found, repeated and made anew.
        call_id = f"call-{rng.randrange(number + 1) if rng.random() < 0.2 else number}"
        at_s = rng.uniform(0.2, 10.0)
        calls.append(
            PlannedCall(
                at_s=at_s,
                call_id=call_id,
                metadata=_metadata(rng),
                end_at_s=at_s + rng.uniform(0.0, 15.0) if rng.random() < 0.25 else None,
            )
        )
    return tuple(sorted(calls, key=lambda call: call.at_s))


def _metadata(rng: random.Random) -> dict[str, Any]:
    does = rng.choice(("steady", "steady", "steady", "eager", "brief", "raises", "silent", "stubborn"))
    match does:
        case "brief":
            return {"does": does, "steps": rng.randint(1, 15)}
        case "raises":
            return {"does": does, "succeeds_at": rng.randint(1, 4)}
        case "stubborn":
            return {"does": does, "stops_after_s": rng.choice((0.5, 3.0, 12.0))}
        case _:
            return {"does": does}


def _weather(rng: random.Random) -> Weather:
    def rate() -> float:
        return rng.choice((0.0, 0.01, 0.05, 0.15))

    return Weather(
        request_lost=rate(), reply_lost=rate(), late=rate(), message_lost=4 * rate(), message_doubled=rate()
    )


def _when(rng: random.Random) -> float:
    return rng.uniform(1.5, FAULTS_UNTIL_S - 2)


def _crash(rng: random.Random, hosts: list[str]) -> list[Step]:
    at_s, target = _when(rng), rng.choice(hosts)
    steps = [Step(at_s=at_s, action="kill", target=target)]
    if rng.random() < 0.6:
        steps.append(Step(at_s=at_s + rng.uniform(0.01, 6), action="restart", target=target))
    return steps


def _pause(rng: random.Random, hosts: list[str]) -> list[Step]:
    at_s, target = _when(rng), rng.choice(hosts)
    return [
        Step(at_s=at_s, action="pause", target=target),
        Step(
            at_s=at_s + rng.choice((0.5, 2.0, 4.0, 9.0)) * rng.uniform(0.5, 1), action="resume", target=target
        ),
    ]


def _cut(rng: random.Random, hosts: list[str]) -> list[Step]:
    at_s, target = _when(rng), rng.choice([*hosts, *hosts, "watchdog", "balancer"])
    return [
        Step(at_s=at_s, action="cut", target=target, how=rng.choice(("both", "requests", "replies"))),
        Step(at_s=at_s + rng.uniform(0.3, 9.0), action="mend", target=target),
    ]


def _slow(rng: random.Random, hosts: list[str]) -> list[Step]:
    at_s, target = _when(rng), rng.choice([*hosts, *hosts, "watchdog", "balancer"])
    how, by_s = rng.choice(("both", "requests", "replies")), rng.choice((0.1, 0.4, 0.9, 2.5))
    return [
        Step(at_s=at_s, action="slow", target=target, detail=by_s * rng.uniform(0.5, 1), how=how),
        Step(at_s=at_s + rng.uniform(0.3, 9.0), action="hasten", target=target),
    ]


def _late_answers(rng: random.Random, hosts: list[str]) -> list[Step]:
    """Answer owners late, so that they have their last lease for less time than they might believe."""
    at_s = min(_when(rng), FAULTS_UNTIL_S - 8)
    cut_at_s = at_s + rng.uniform(1.5, 3.0)
    steps = [Step(at_s=cut_at_s + rng.uniform(0.0, 0.3), action="jump", detail=rng.uniform(1.0, 5.0))]
    for target in rng.sample(hosts, (len(hosts) + 1) // 2):
        mended_at_s = cut_at_s + rng.uniform(3.0, 5.0)
        steps += [
            Step(at_s=at_s, action="slow", target=target, detail=rng.uniform(0.5, 0.75), how="replies"),
            Step(at_s=cut_at_s, action="cut", target=target, how="requests"),
            Step(at_s=mended_at_s, action="mend", target=target),
            Step(at_s=mended_at_s, action="hasten", target=target),
        ]
    return steps


def _late_renewals(rng: random.Random, hosts: list[str]) -> list[Step]:
    """Have renewals arrive when their sender has given up what they renew, and nobody has it yet."""
    at_s, target = min(_when(rng), FAULTS_UNTIL_S - 7), rng.choice(hosts)
    return [
        Step(at_s=at_s, action="pause watchdog"),
        Step(at_s=at_s, action="slow", target=target, detail=rng.uniform(1.5, 3.0), how="requests"),
        Step(at_s=at_s + 1.0, action="hasten", target=target),
        Step(at_s=at_s + rng.uniform(1.0, 1.5), action="drain", target=target),
        Step(at_s=at_s + rng.uniform(4.0, 6.0), action="resume watchdog"),
    ]


def _late_sweep(rng: random.Random, hosts: list[str]) -> list[Step]:
    """Have a watchdog that sees a lease end be slow, so that the owner is back before its sweep arrives."""
    at_s, target = min(_when(rng), FAULTS_UNTIL_S - 7), rng.choice(hosts)
    by_s = rng.uniform(0.3, 0.9)
    return [
        Step(at_s=at_s, action="pause", target=target),
        Step(at_s=at_s + 1.0, action="slow", target="watchdog", detail=by_s, how="requests"),
        Step(at_s=at_s + rng.uniform(2.4, 4.0) + by_s, action="resume", target=target),
        Step(at_s=at_s + rng.uniform(4.5, 7.0), action="hasten", target="watchdog"),
    ]


def _hide(rng: random.Random, hosts: list[str]) -> list[Step]:
    at_s, target = _when(rng), rng.choice(hosts)
    return [
        Step(at_s=at_s, action="hide", target=target),
        Step(at_s=at_s + rng.uniform(0.3, 9.0), action="show", target=target),
    ]


def _drain(rng: random.Random, hosts: list[str]) -> list[Step]:
    at_s, target = _when(rng), rng.choice(hosts)
    steps = [Step(at_s=at_s, action="drain", target=target)]
    if rng.random() < 0.7:
        steps.append(Step(at_s=at_s + rng.uniform(0.0, 3.0), action="restart", target=target))
    return steps


def _watchdog(rng: random.Random, _: list[str]) -> list[Step]:
    at_s = _when(rng)
    how = rng.choice(("pause", "kill"))
    return [
        Step(at_s=at_s, action=f"{how} watchdog"),
        Step(at_s=at_s + rng.uniform(0.3, 8.0), action="resume watchdog"),
    ]


def _balancer(rng: random.Random, _: list[str]) -> list[Step]:
    at_s = _when(rng)
    return [
        Step(at_s=at_s, action="kill balancer"),
        Step(at_s=at_s + rng.uniform(0.1, 4.0), action="start balancer"),
    ]


def _freeze(rng: random.Random, _: list[str]) -> list[Step]:
    at_s = _when(rng)
    return [Step(at_s=at_s, action="freeze"), Step(at_s=at_s + rng.uniform(0.2, 10.0), action="thaw")]


def _empty(rng: random.Random, _: list[str]) -> list[Step]:
    at_s = _when(rng)
    steps = [Step(at_s=at_s, action="empty")]
    if rng.random() < 0.5:
        steps.insert(0, Step(at_s=at_s - rng.uniform(0.05, 2.0), action="refuse"))
    return steps


def _restart(rng: random.Random, _: list[str]) -> list[Step]:
    """Stop Redis, and start it again with all that it held."""
    at_s = _when(rng)
    return [Step(at_s=at_s, action="refuse"), Step(at_s=at_s + rng.uniform(0.05, 8.0), action="accept")]


def _roll_back(rng: random.Random, _: list[str]) -> list[Step]:
    at_s, lost_s = _when(rng), rng.choice((0.05, 0.5, 2.0, 6.0)) * rng.uniform(0.5, 1)
    return [
        Step(at_s=max(0.1, at_s - lost_s), action="snapshot", detail=at_s),
        Step(at_s=at_s, action="roll back", detail=lost_s),
    ]


def _siblings(rng: random.Random, hosts: list[str]) -> list[Step]:
    """Have Redis forget its calls, and clients ask for them anew before their owners have put them back."""
    at_s = _when(rng)
    steps = [
        Step(at_s=at_s, action="empty"),
        # What ends at once may end while those are running that it must not take with it.
        Step(at_s=at_s + rng.uniform(0.0005, 0.3), action="ask again", how=rng.choice(("", "", "brief"))),
    ]
    for target in rng.sample(hosts, rng.randint(0, len(hosts) - 1)):
        steps.append(Step(at_s=at_s - rng.uniform(0.0, 0.2), action="cut", target=target, how="both"))
        steps.append(Step(at_s=at_s + rng.uniform(0.05, 4.0), action="mend", target=target))
    return steps


def _orphans(rng: random.Random, hosts: list[str]) -> list[Step]:
    """Leave a session with a sibling whose lease is over and whom nobody has swept yet."""
    at_s = min(_when(rng), FAULTS_UNTIL_S - 8)
    senior, junior = rng.sample(hosts, 2)
    dies_at_s = at_s + rng.uniform(0.55, 0.9)
    return [
        Step(at_s=at_s - 0.05, action="pause watchdog"),
        Step(at_s=at_s - 0.02, action="cut", target=senior, how="both"),
        Step(at_s=at_s, action="empty"),
        Step(at_s=at_s + rng.uniform(0.01, 0.2), action="ask again"),
        Step(at_s=at_s + rng.uniform(0.2, 0.5), action="mend", target=senior),
        Step(at_s=dies_at_s - rng.uniform(0.0, 0.2), action="pause", target=junior),
        Step(at_s=dies_at_s, action="kill", target=senior),
        Step(at_s=dies_at_s + rng.uniform(3.0, 4.5), action="resume", target=junior),
        Step(at_s=dies_at_s + rng.uniform(5.0, 6.0), action="resume watchdog"),
    ]


def _jump(rng: random.Random, _: list[str]) -> list[Step]:
    by_s = rng.choice((3600.0, -3600.0, 5.0, -5.0, 0.7, -0.7))
    return [Step(at_s=_when(rng), action="jump", detail=by_s)]


def _forget_scripts(rng: random.Random, _: list[str]) -> list[Step]:
    return [Step(at_s=_when(rng), action="forget scripts")]


FAMILIES: tuple[Callable[[random.Random, list[str]], list[Step]], ...] = (
    _crash,
    _pause,
    _cut,
    _slow,
    _late_answers,
    _late_renewals,
    _late_sweep,
    _hide,
    _drain,
    _watchdog,
    _balancer,
    _freeze,
    _empty,
    _restart,
    _roll_back,
    _siblings,
    _siblings,
    _orphans,
    _orphans,
    _jump,
    _forget_scripts,
)

TORMENTS = {
    "kill": _crash,
    "pause": _pause,
    "partition": _cut,
    "slowness": _slow,
    "drain": _drain,
    "freeze": _freeze,
    "data loss": _empty,
}
"""What a user may put his own handler through, by name."""
