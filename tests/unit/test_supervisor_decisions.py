"""When a program is started again, and how figures and log lines are told."""

import pytest

from mediaflow.processes.child import readable
from mediaflow.processes.restarts import LONGEST_PAUSE_S, MOST_FAILURES, Restarts, describe_end
from mediaflow.settings import Settings
from mediaflow.supervisor.figures import count, listed, percentile
from mediaflow.supervisor.plan import Plan, worker_names


def test_a_program_that_keeps_failing_is_started_ever_later_and_then_no_more():
    restarts, pauses = Restarts(), []
    for _ in range(MOST_FAILURES):
        restarts = restarts.ended(0.1)
        pauses.append(restarts.pause_s)
    assert pauses[-1] is None
    assert all(pause is not None and pause <= LONGEST_PAUSE_S for pause in pauses[:-1])
    assert pauses[:-1] == sorted(pauses[:-1])
    assert pauses[0] < pauses[1]


def test_a_program_that_ran_well_is_started_at_once_however_often_it_dies():
    restarts = Restarts()
    for _ in range(100):
        restarts = restarts.ended(60.0)
    assert restarts.pause_s == Restarts().ended(0.1).pause_s


@pytest.mark.parametrize(("status", "text"), [(-9, "SIGKILL"), (1, "exit status 1"), (-250, "signal 250")])
def test_how_a_process_ended_is_told_in_words(status, text):
    assert describe_end(status) == text


def test_percentiles_are_values_that_occurred():
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(list(range(1, 101)), 0.99) == 99
    assert percentile([7], 1.0) == 7
    with pytest.raises(ValueError, match="0 values"):
        percentile([], 0.5)


def test_long_lists_are_cut_and_plurals_are_right():
    assert listed(["a", "b", "c", "d", "e", "f"]) == "a, b, c, d and 2 more"
    assert (count(1, "call"), count(0, "call"), count(1200, "call")) == ("1 call", "0 calls", "1,200 calls")


def test_a_log_line_of_a_child_becomes_a_sentence():
    line = '{"event": "not ready", "level": "warning", "timestamp": "x", "problem": "Redis is away"}'
    assert readable(line) == ("warning", "not ready (problem=Redis is away)")


def test_of_a_childs_traceback_people_see_the_last_line():
    trace = ["Traceback (most recent call last):", '  File "x.py", line 1, in y', "    ^^^", "OSError: no"]
    assert [readable(line)[0] for line in trace] == ["debug", "debug", "debug", "error"]


def test_passwords_travel_in_the_environment_and_not_on_the_command_line():
    settings = Settings(redis_url="redis://user:secret@db:6379/0", api_token="hidden", slots=7)
    plan = Plan(settings=settings, port=8080, streams_port=8090, workers=worker_names(2, shared_store=False))
    environment = plan.environment({"PATH": "/bin", "MEDIAFLOW_CONFIG": "/x", "MEDIAFLOW_PORT": "1"})
    assert "secret" not in str(plan.commands())
    assert "hidden" not in str(plan.commands())
    assert environment["MEDIAFLOW_REDIS_URL"] == settings.redis_url
    assert environment["MEDIAFLOW_SLOTS"] == "7"
    assert environment["PATH"] == "/bin"
    assert not environment.keys() & {"MEDIAFLOW_CONFIG", "MEDIAFLOW_PORT", "MEDIAFLOW_INSTANCE_ID"}


def test_workers_of_two_supervisors_on_one_redis_have_different_names():
    assert worker_names(2, shared_store=False) == ("worker-1", "worker-2")
    assert all(name.endswith(("-worker-1", "-worker-2")) for name in worker_names(2, shared_store=True))
