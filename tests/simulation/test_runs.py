"""The system under faults, in virtual time: every promise holds, and every run can be repeated."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mediaflow.testing import campaign
from mediaflow.testing import plan as plans_of
from mediaflow.testing.history import transcript
from mediaflow.testing.run import run_seed

JOBS = os.cpu_count() or 1
ROOT = Path(__file__).parents[2]

DIGEST = """
import hashlib
from mediaflow.testing.history import transcript
from mediaflow.testing.run import run_seed
for seed in (3, 11):
    print(hashlib.sha256(transcript(run_seed(seed).history).encode()).hexdigest())
"""


def digest(seed: int, engine: str = "subset") -> str:
    return hashlib.sha256(transcript(run_seed(seed, engine).history).encode()).hexdigest()


def test_no_promise_is_broken_in_a_hundred_schedules_of_faults():
    outcome = campaign.run_many(0, 100, JOBS, "subset")
    assert outcome.done == 100
    assert not outcome.failures, "\n".join(outcome.failures)


def test_a_seed_gives_the_same_history_each_time():
    assert digest(3) == digest(3)


@pytest.mark.slow
def test_a_seed_gives_the_same_history_in_every_process_whatever_its_hash_seed():
    said = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert said == {f"{digest(3)}\n{digest(11)}\n"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 32))
def test_the_subset_of_redis_gives_the_same_history_as_fakeredis(seed):
    assert digest(seed) == digest(seed, "fakeredis")


def test_schedules_differ_and_each_fault_is_there():
    plans = [plans_of.draw(seed) for seed in range(300)]
    actions = {step.action for plan in plans for step in plan.steps}
    assert actions >= {
        "kill",
        "restart",
        "pause",
        "resume",
        "cut",
        "mend",
        "slow",
        "hasten",
        "hide",
        "show",
        "drain",
        "pause watchdog",
        "kill watchdog",
        "kill balancer",
        "freeze",
        "thaw",
        "empty",
        "refuse",
        "accept",
        "snapshot",
        "roll back",
        "ask again",
        "jump",
        "forget scripts",
    }
    assert len({plan.steps for plan in plans}) > 290
    assert sum(plan.weather.reply_lost > 0 for plan in plans) > 30
