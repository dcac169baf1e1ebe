"""Small sabotages of the protocol, each applied to a copy of the package: the simulator has to catch every one.

One that survives shows a checker, or a kind of schedule, that is missing. ``python tests/simulation/mutants.py``
tries them all, ``… NAME…`` those that are named; each stops at its first catch.

Not among them is a watchdog that sweeps as soon as Redis is back: lease time stands still while Redis is away, so
that owners renew in time all the same, and its patience is a second line of defence only.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "mediaflow"
SEEDS = 300


class Mutant(NamedTuple):
    """What is replaced by what in which file of the package, and what that takes away.

    ``first`` is the first of the seeds that are tried: where only few schedules can notice, near one that does.
    """

    name: str
    file: str
    old: str
    new: str
    about: str
    first: int = 0


LUA = "store/lua"

MUTANTS = (
    Mutant(
        "write-without-owner",
        f"{LUA}/write.lua",
        "if not owned_by(entry, instance, incarnation) then return {'lost'} end\nif fence < entry.fence",
        "if false",
        "checkpoints are accepted from anybody, under any old fence",
    ),
    Mutant(
        "yield-to-anyone",
        f"{LUA}/_records.lua",
        "and (not rank or precedes(sibling.rank, sibling_id, rank, session_id))",
        "",
        "a session yields to any live sibling, be it its junior",
    ),
    Mutant(
        "yield-to-the-dead",
        f"{LUA}/_records.lua",
        "      and has_live_lease(call, sibling_id) then",
        "      then",
        "a session yields to a sibling whose lease is over",
        first=300,  # about one seed in 350 has a senior that is dead, not yet swept, and a junior that renews
    ),
    Mutant(
        "wall-clock-leases",
        f"{LUA}/_time.lua",
        "lease_ms = tonumber(last[1]) + math.max(0, math.min(wall_ms - tonumber(last[2]), CAP_MS))",
        "lease_ms = wall_ms",
        "leases are counted in plain TIME",
    ),
    Mutant(
        "fence-counts",
        f"{LUA}/_records.lua",
        "return math.max(call.fence + 1, now_us)",
        "return call.fence + 1",
        "a fence only counts up, and starts again when Redis forgot it",
    ),
    Mutant(
        "fence-stands",
        f"{LUA}/_records.lua",
        "return math.max(call.fence + 1, now_us)",
        "return math.max(call.fence, 1)",
        "a new owner gets the fence of the old one",
    ),
    Mutant(
        "deadline-from-reply",
        "runtime/renewer.py",
        "round_.heard_at_s = self._clock.monotonic_s()",
        "round_.heard_at_s = round_.sent_at_s = self._clock.monotonic_s()",
        "the owner counts its lease from the answer, not from the request",
    ),
    Mutant(
        "deadline-without-cap",
        "core/lease.py",
        "(ttl_s - LEASE_CLOCK_CAP_S - margin_s(ttl_s)) / (1 + CLOCK_DRIFT)",
        "(ttl_s + LEASE_CLOCK_CAP_S) / (1 + CLOCK_DRIFT)",
        "the owner trusts its lease for longer than Redis does",
    ),
    Mutant(
        "no-tombstone",
        f"{LUA}/_endings.lua",
        "  put(call, session_id, entry)\n",
        "  put(call, session_id, entry)\n  remove('HDEL', call.key, 's:' .. session_id)\n",
        "an ended session leaves no tombstone",
    ),
    Mutant(
        "acceptance-for-a-lease",
        f"{LUA}/assign.lua",
        "integer(lease_ms + accept_ttl_ms)",
        "integer(lease_ms + TTL_MS)",
        "an assignment that is not accepted blocks its session for as long as a lease",
    ),
    Mutant(
        "sweep-unchecked",
        f"{LUA}/sweep.lua",
        "return not has_live_lease(call, session_id)",
        "return true",
        "the watchdog takes sessions without looking at their leases again",
        first=1000,  # it takes a renewal between the look at the index and the sweep: one seed in several hundred
    ),
    Mutant(
        "accept-any-fence",
        f"{LUA}/accept.lua",
        "if not owned_by(entry, instance, incarnation) or entry.fence ~= fence then return {'lost'} end",
        "",
        "an assignment that was given to another since is accepted all the same",
    ),
    Mutant(
        "readopt-the-ended",
        f"{LUA}/readopt.lua",
        "  if not LIVE[entry.state] or entry.fence >= fence then return {'lost'} end",
        "",
        "readoption puts a session over its tombstone, or over a newer owner",
        first=300,  # it takes an owner that readopts what was ended or taken over since: 311 has one
    ),
    Mutant(
        "holder-not-revoked",
        f"{LUA}/_records.lua",
        "if id == session_id or LIVE[known.state] then revoke('HDEL', HELD, call.id .. '/' .. id) end",
        "",
        "who held a session is still said to hold it when its record has changed",
    ),
    Mutant(
        "released-keeps-owner",
        f"{LUA}/relinquish.lua",
        "entry.state, entry.owner, entry.incarnation, entry.rank, entry.accepted = 'pending', '', '0', '', false",
        "entry.state, entry.accepted = 'pending', false",
        "a session that was given up can be revived by a late renewal",
    ),
    Mutant(
        "key-forgotten",
        f"{LUA}/create.lua",
        "remember(session_id, '1')",
        "",
        "the answer to a request is not remembered",
        first=300,  # it takes a client that asks again under its key after the call has ended: 322 and 327 do
    ),
    Mutant(
        "slots-unlimited",
        "runtime/slots.py",
        "if self.used >= self.total:",
        "if False:",
        "an instance takes whatever it is given",
    ),
    Mutant(
        "lost-goes-on",
        "runtime/leasehold.py",
        'return core.Ended("lost")',
        "return core.Confirmed(sent_at_s, fence, 0.5)",
        "an owner that is told of another goes on",
    ),
    Mutant(
        "check-says-yes",
        "runtime/session.py",
        "        if not self.owned:\n",
        "        if False:\n",
        "session.check() never raises",
    ),
    Mutant(
        "complete-over-senior",
        f"{LUA}/complete.lua",
        "local winner = running_sibling(call, session_id, entry.rank)",
        "local winner = nil",
        "a junior that is done ends the call of its senior",
    ),
    Mutant(
        "balancer-new-key",
        "loadbalancer/balancer.py",
        "request.idempotency_key or secrets.token_hex(16)",
        'f"{request.idempotency_key}-{self._roster.free()}-{id(request)}"',
        "the balancer asks under a key of its own making",
    ),
    Mutant(
        "drain-completes",
        "core/tenure.py",
        '_leave(tenure, "release", "")',
        '_leave(tenure, "complete", "")',
        "a drain ends the calls that it should hand off",
    ),
    Mutant(
        "never-readopts",
        "runtime/leasehold.py",
        "return core.Forgotten()",
        'return core.Ended("lost")',
        "an owner whose session Redis forgot gives it up",
    ),
    Mutant(
        "pending-not-indexed",
        f"{LUA}/sweep.lua",
        "  add('ZADD', PENDING, integer(lease_ms), member)\n",
        "",
        "a session that lost its owner is named by no index",
    ),
    Mutant(
        "sweeps-the-successor",
        f"{LUA}/sweep.lua",
        "return entry.owner == instance and tonumber(entry.incarnation) < before_incarnation",
        "return entry.owner == instance",
        "what a restarted instance owns is swept with what its predecessor owned",
    ),
)


class Caught(NamedTuple):
    """How a mutant fared: ``seed`` None if no seed caught it."""

    seed: int | None
    output: str


def apply(mutant: Mutant, folder: Path) -> None:
    """Make a copy of the package with the sabotage in it."""
    shutil.copytree(PACKAGE, folder / "mediaflow", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "mediaflow" / mutant.file
    text = path.read_text("utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.file} holds {mutant.old!r} {text.count(mutant.old)} times")
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")


def try_out(mutant: Mutant, *, seeds: int = SEEDS, timeout_s: float = 900.0) -> Caught:
    """Run seeds on a sabotaged copy until one breaks a promise."""
    with tempfile.TemporaryDirectory(prefix="mediaflow-mutant-") as folder:
        apply(mutant, Path(folder))
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "mediaflow.testing", "--until-broken"),
                *("--first", str(mutant.first), "--seeds", str(seeds)),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder, "PYTHONSAFEPATH": ""},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    found = re.search(r"seed (\d+) breaks ([^:]*)", ran.stderr)
    return Caught(int(found[1]) if found else None, ran.stdout + ran.stderr)


def main(names: list[str]) -> int:
    """Try mutants two at a time, and say how each fared."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for mutant, caught in zip(chosen, pool.map(try_out, chosen), strict=True):
            survivors += caught.seed is None
            how = re.search(r"seed \d+ breaks [^\n]*\n[^\n]*", caught.output)
            said = f"caught by {how[0]}" if how else f"SURVIVED\n{caught.output[-1500:]}"
            print(f"{mutant.name}: {said}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
