"""What a fleet takes: never less than the load, never fewer for more, and every figure with its numbers."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaflow.bench.plan import costs as unit_costs
from mediaflow.bench.plan.answer import figure
from mediaflow.bench.plan.burden import LONELY, Burden, gathered_in, scripts_a_renewal
from mediaflow.bench.plan.costs import Costs, CostsError
from mediaflow.bench.plan.demand import Demand, DemandError
from mediaflow.bench.plan.sizing import size

ROUND = Costs(
    machine="made up",
    renewals_gather_in=40,
    redis_start_us=60,
    redis_end_us=40,
    redis_script_us=10,
    redis_renew_us=5,
    redis_tick_us=10,
    redis_heartbeat_us=50,
    redis_reading_us=3,
    redis_stream_start_us=60,
    redis_stream_beat_us=40,
    redis_stream_stop_us=40,
    worker_start_us=300,
    worker_end_us=100,
    worker_script_us=20,
    worker_renew_us=10,
    worker_idle_us=2000,
    balancer_start_us=150,
    balancer_end_us=100,
    reader_us=5,
    watchdog_tick_us=20,
    stream_start_us=200,
    stream_beat_us=100,
    stream_stop_us=100,
    redis_session_bytes=1500,
    redis_ended_bytes=1000,
    redis_stream_bytes=500,
    redis_ended_stream_bytes=100,
    worker_session_bytes=8000,
    renewal_bytes=400,
    beat_bytes=600,
    reading_bytes=400,
)

demands = st.builds(
    Demand,
    sessions=st.integers(1, 10**8),
    streams=st.integers(0, 10**9),
    call_minutes=st.floats(0.1, 600),
    lease_ttl_s=st.floats(3, 120),
    stream_heartbeat_s=st.floats(1, 300),
    slots=st.integers(1, 20_000),
    handler_us=st.sampled_from([0.0, 100.0, 50_000.0]),
    partitions=st.integers(1, 1024),
    utilisation=st.floats(0.05, 1),
    spares=st.integers(0, 3),
)
costs = st.builds(
    Costs,
    machine=st.just("made up"),
    renewals_gather_in=st.floats(1, 100),
    **{
        name: st.floats(0, 5000)
        for name in Costs.__struct_fields__
        if name not in ("machine", "renewals_gather_in")
    },
)


def numbers(sizing):
    return {found.name: math.inf if found.number is None else found.number for found in sizing.figures}


def one(sizing, name):
    return next(found for found in sizing.figures if found.name == name)


def test_a_fleet_is_sized_by_what_it_takes():
    """Worked out by hand: 1.2 scripts at most, and a 10 s lease is renewed 0.3 times a second."""
    sizing = size(Demand(sessions=100_000, streams=900_000, slots=1000, call_minutes=10), ROUND)
    assert (
        numbers(sizing)
        == {
            "workers": 100,  # 1000 slots each; a session takes about 6 µs a second
            "balancers": 2,  # 167 calls a second at 250 µs, and a spare
            "watchdogs": 2,
            "Redis shards for calls": 1,  # 30,000 renewals at 9 µs: 0.27 s of 0.5 s
            "concurrency services": 8,  # 30,000 beats at 100 µs and 250 starts and stops at 300 µs: 3.1 s, and a spare
            "Redis shards for streams": 3,  # 30,000 at 40 µs and 250 at 100 µs: 1.2 s
        }
    )
    assert sizing.holds


def test_each_figure_shows_the_numbers_that_it_comes_from():
    workers = one(size(Demand(sessions=100_000, slots=1000), ROUND), "workers")
    assert workers.because[-1] == "100,000 sessions / 1,000 = 100"


def test_what_is_not_asked_for_takes_nothing():
    assert set(numbers(size(Demand(sessions=0, streams=1), ROUND))) == {
        "concurrency services",
        "Redis shards for streams",
    }
    assert "concurrency services" not in numbers(size(Demand(sessions=1), ROUND))


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"slots": 10, "files": 10**9, "clients": 10**9}, "the registry's shard"),
        ({"partitions": 1}, "one partition"),
        ({"clients": 1000}, "connections of a Redis"),
        ({"files": 100}, "connections of a watchdog"),
    ],
)
def test_what_breaks_first_is_said_first(change, broken):
    sizing = size(Demand(**{"sessions": 1_000_000, "slots": 1000, **change}), ROUND)
    assert sizing.limits[0].name == broken
    assert not sizing.holds


def test_a_handler_that_takes_a_whole_core_cannot_be_hosted():
    sizing = size(Demand(sessions=10, handler_us=900_000), ROUND)
    assert one(sizing, "workers").number is None
    assert not sizing.holds


@given(demands, costs)
def test_no_process_and_no_redis_is_given_more_than_its_share_of_a_core(demand, unit):
    sizing, burden = size(demand, unit), Burden(demand, unit)
    found = numbers(sizing)
    allowed_us = burden.budget_us * (1 + 1e-9)
    if found["workers"] < math.inf:
        assert found["workers"] * burden.held >= demand.sessions
        assert burden.held <= demand.slots
        assert burden.held * burden.session_us(burden.held) + unit.worker_idle_us <= allowed_us
    if found["balancers"] < math.inf:
        serving = max(1, found["balancers"] - demand.spares)
        calls_us = burden.calls_per_s * (unit.balancer_start_us + unit.balancer_end_us) / serving
        assert calls_us + burden.workers * unit.reader_us <= allowed_us
    if found["Redis shards for calls"] < math.inf:
        load = burden.load_of_calls()
        fullest = math.ceil(demand.partitions / found["Redis shards for calls"])
        assert load.cpu_us * fullest / demand.partitions <= allowed_us
    if demand.streams:
        beats_us = burden.beats_per_s * unit.redis_stream_beat_us
        assert beats_us / found["Redis shards for streams"] <= allowed_us


@given(demands, costs, st.integers(1, 10**8))
def test_more_sessions_never_take_fewer_of_anything(demand, unit, more):
    larger = msgspec.structs.replace(demand, sessions=demand.sessions + more, streams=demand.streams + more)
    before, after = numbers(size(demand, unit)), numbers(size(larger, unit))
    assert all(after[name] >= before[name] for name in before)


def test_more_calls_never_take_fewer_shards_because_their_partitions_were_counted_unevenly():
    # 397 partitions on 10 shards are 40 on the fullest, whether 43 of them would fit there or 40: the room that is
    # left for the registry becomes less with the load.
    nothing = {name: 0.0 for name in Costs.__struct_fields__ if name != "machine"}
    few = nothing | {"redis_renew_us": 1.0, "redis_tick_us": 3407.0, "redis_reading_us": 2.0}
    unit = Costs(machine="made up", **few | {"renewals_gather_in": 1.0})
    demand = Demand(
        sessions=127_970,
        call_minutes=1.0,
        lease_ttl_s=16.0,
        slots=287,
        partitions=397,
        utilisation=0.90625,
        spares=2,
    )
    larger = msgspec.structs.replace(demand, sessions=327_321)
    before, after = numbers(size(demand, unit)), numbers(size(larger, unit))
    assert after["Redis shards for calls"] >= before["Redis shards for calls"]


@given(demands, costs)
def test_limits_come_in_the_order_in_which_they_break(demand, unit):
    shares = [limit.share for limit in size(demand, unit).limits]
    assert shares == sorted(shares, reverse=True)


@given(st.integers(1, 100_000), st.integers(1, 1024))
def test_a_renewal_costs_a_script_at_most_and_its_share_of_all_partitions_at_least(sessions, partitions):
    scripts = scripts_a_renewal(sessions, partitions, 40)
    together = 1 + 3 * sessions / 40
    assert min(1, partitions / together) * 0.5 <= scripts <= 1 + 1e-9


@given(st.integers(10, 20_000), st.integers(2, 1024), st.integers(3, 200))
def test_how_renewals_went_out_together_is_found_from_the_scripts_that_it_took(sessions, partitions, part):
    scripts = scripts_a_renewal(sessions, partitions, part)
    assert scripts_a_renewal(sessions, partitions, gathered_in(scripts, sessions, partitions)) == scripts


def test_renewals_that_share_nothing_went_out_alone():
    assert gathered_in(1.0, 100, 32) == LONELY


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"sessions": -1}, "sessions"),
        ({"sessions": 0}, "nothing to plan for"),
        ({"sessions": 1, "lease_ttl_s": 1}, "lease_ttl_s"),
        ({"sessions": 1, "utilisation": 1.5}, "utilisation"),
        ({"sessions": 1, "utilisation": float("nan")}, "utilisation"),
        ({"sessions": 1, "partitions": 2000}, "partitions"),
        ({"sessions": 1, "call_minutes": 0}, "call_minutes"),
        ({"sessions": 10**13}, "sessions"),
    ],
)
def test_what_cannot_be_asked_for_is_named(wrong, named):
    with pytest.raises(DemandError, match=named):
        Demand(**wrong)


def test_costs_survive_being_written_and_read(tmp_path):
    unit_costs.write(tmp_path / "costs.json", ROUND)
    assert unit_costs.read(tmp_path / "costs.json") == ROUND


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"machine": "x", "redis_start_us": -1}', "[" * 100_000, "\xff"]
)
def test_a_file_that_holds_no_costs_is_refused_by_its_name(tmp_path, text):
    path = tmp_path / "costs.json"
    path.write_text(text, "latin-1")
    with pytest.raises(CostsError, match=r"costs\.json"):
        unit_costs.read(path)


def test_costs_below_zero_are_refused(tmp_path):
    path = tmp_path / "costs.json"
    path.write_bytes(msgspec.json.encode({**msgspec.to_builtins(ROUND), "reader_us": -1.0}))
    with pytest.raises(CostsError, match="reader_us"):
        unit_costs.read(path)


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0"), (0.1234, "0.123"), (99.95, "100"), (12, "12"), (1234567.8, "1,234,568")]
)
def test_numbers_are_written_for_people(number, shown):
    assert figure(number) == shown
