"""The model of the sibling and takeover protocol keeps its promises, in every state, and mutants of it do not."""

import pytest
from simulation.model import configurations
from simulation.model.configurations import ALL, JUMP, LIMITS, MUTANTS
from simulation.model.explore import explore
from simulation.model.rules import Rules


def seen(found):
    print(found)
    return found


def test_a_jump_of_the_clock_of_redis_takes_no_session_from_an_owner_that_trusts_its_lease():
    found = seen(explore(JUMP))
    assert (found.broken, found.complete) == ("", True)
    assert found.states > 500


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ALL, ids=lambda one: one.title)
def test_no_state_that_can_be_reached_breaks_a_promise(configuration):
    found = seen(explore(configuration))
    assert (found.broken, found.complete) == ("", True), str(found)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.rule)
def test_each_rule_is_needed(mutant):
    found = seen(explore(mutant.configuration._replace(rules=Rules(**{mutant.rule: False}))))
    assert found.broken.startswith(mutant.broken), str(found)
    assert 1 <= len(found.trace) <= 40


@pytest.mark.slow
@pytest.mark.parametrize(("configuration", "broken"), LIMITS, ids=lambda one: getattr(one, "title", one))
def test_what_is_not_promised_does_happen(configuration, broken):
    assert seen(explore(configuration)).broken.startswith(broken)


def test_a_mutant_is_told_as_a_story():
    mutant = next(one for one in configurations.MUTANTS if one.rule == "lease_time_is_capped")
    found = seen(explore(mutant.configuration._replace(rules=Rules(lease_time_is_capped=False))))
    assert found.trace[0] == "A create s0 -> created #1"
    assert "the clock of Redis jumps forward" in found.trace
    assert str(found).splitlines()[-1].startswith("  !!  G3: session.check() of s0 passes at A")
