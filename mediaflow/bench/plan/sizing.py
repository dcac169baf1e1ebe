"""How many of everything a demand takes, why, and what breaks first. Pure: data in, data out.

Queues are not modelled: a process is given no more than a share of a core (``utilisation``), which leaves room for
bursts. Nor are replicas, or what users' handlers do beyond ``handler_us``. Costs are taken to grow in proportion, which
within one process was measured, and beyond one machine was not.
"""

import math

from mediaflow.bench.plan.answer import Figure, Limit, Sizing, figure, tell
from mediaflow.bench.plan.burden import GIB, READINGS_A_BALANCER, RENEWALS_A_LEASE, TICKS, Burden, Load
from mediaflow.bench.plan.costs import Costs
from mediaflow.bench.plan.demand import Demand
from mediaflow.bench.plan.limits import limits


def size(demand: Demand, costs: Costs) -> Sizing:
    """Compute what a demand takes."""
    burden = Burden(demand, costs)
    figures: list[Figure] = []
    found: list[Limit] = []
    if demand.sessions:
        balancers = _balancers(burden)
        number = (
            balancers.number or 1 + demand.spares
        )  # where no number is enough, what follows still is told
        load, registry = burden.load_of_calls(), burden.load_of_registry(number)
        figures += [_workers(burden), balancers, _watchdogs(burden), _shards_of_calls(burden, load, registry)]
        found = limits(burden, load, registry, number)
    if demand.streams:
        figures += [_services(burden), _shards_of_streams(burden)]
    found.sort(key=lambda limit: -limit.share)
    return Sizing(demand=demand, costs=costs, figures=tuple(figures), limits=tuple(found))


def _workers(burden: Burden) -> Figure:
    costs, asked, held = burden.costs, burden.asked, max(1, burden.held)
    renewal_us = costs.worker_renew_us + costs.worker_script_us * burden.scripts(held)
    each_us = burden.session_us(held)
    return Figure(
        name="workers",
        number=burden.workers if burden.held else None,
        because=(
            tell(
                "a renewal: {} µs + {} scripts × {} µs = {} µs",
                costs.worker_renew_us,
                burden.scripts(held),
                costs.worker_script_us,
                renewal_us,
            ),
            tell(
                "a session: {} µs × {} / {} s + ({} + {}) µs / {} s + handler {} = {} µs a second",
                renewal_us,
                RENEWALS_A_LEASE,
                asked.lease_ttl_s,
                costs.worker_start_us,
                costs.worker_end_us,
                60 * asked.call_minutes,
                asked.handler_us,
                each_us,
            ),
            tell(
                "a process: min({} slots, ({} - {}) µs / {} µs, {} GiB / {} B) = {} sessions",
                asked.slots,
                burden.budget_us,
                costs.worker_idle_us,
                each_us,
                asked.worker_gib,
                costs.worker_session_bytes,
                burden.held,
            ),
            tell("{} sessions / {} = {}", asked.sessions, burden.held, burden.workers),
        ),
    )


def _balancers(burden: Burden) -> Figure:
    costs, asked = burden.costs, burden.asked
    reading_us = READINGS_A_BALANCER * burden.workers * costs.reader_us
    left_us = burden.budget_us - reading_us
    call_us = costs.balancer_start_us + costs.balancer_end_us
    needed = max(1, math.ceil(burden.calls_per_s * call_us / left_us)) if left_us > 0 else None
    return Figure(
        name="balancers",
        number=None if needed is None else needed + asked.spares,
        because=(
            tell(
                "calls: {} / {} s = {} a second", asked.sessions, 60 * asked.call_minutes, burden.calls_per_s
            ),
            tell("a call: {} + {} = {} µs", costs.balancer_start_us, costs.balancer_end_us, call_us),
            tell(
                "each, after reading {} instances × {} µs each second: {} - {} = {} µs a second",
                burden.workers,
                costs.reader_us,
                burden.budget_us,
                reading_us,
                left_us,
            ),
            tell(
                "{} × {} µs / {} µs = {}, + {} to spare",
                burden.calls_per_s,
                call_us,
                left_us,
                "no number is enough" if needed is None else figure(needed),
                asked.spares,
            ),
        ),
    )


def _watchdogs(burden: Burden) -> Figure:
    costs, asked = burden.costs, burden.asked
    enough = burden.watching_us() <= burden.budget_us
    return Figure(
        name="watchdogs",
        number=burden.watchdogs if enough else None,
        because=(
            "each watches over everything; more of them are spares, not shares",
            tell(
                "{} a second × ({} partitions × {} µs + {} instances × {} µs) = {} µs of {} µs a second",
                TICKS,
                asked.partitions,
                costs.watchdog_tick_us,
                burden.workers,
                costs.reader_us,
                burden.watching_us(),
                burden.budget_us,
            ),
            tell("1 + {} to spare", asked.spares) if enough else "one core is not enough for one of them",
        ),
    )


def _shards_of_calls(burden: Burden, load: Load, registry: Load) -> Figure:
    asked = burden.asked
    fullness = burden.fullness(load)
    of_a_shard = min(asked.partitions, int(asked.partitions / fullness) if fullness else asked.partitions)
    shards = math.ceil(asked.partitions / of_a_shard) if of_a_shard else None
    fullest_us = load.cpu_us * math.ceil(asked.partitions / (shards or 1)) / asked.partitions
    apart = registry.cpu_us + fullest_us > burden.budget_us
    number = None if shards is None or registry.cpu_us > burden.budget_us else shards + apart
    return Figure(
        name="Redis shards for calls",
        number=number,
        because=(
            *_load_of_calls(burden, load),
            tell(
                "that fills {} shards; {} partitions, {} to a shard: {}",
                fullness,
                asked.partitions,
                of_a_shard,
                "no number is enough" if shards is None else figure(shards),
            ),
            tell(
                "the registry's {} µs a second {}",
                registry.cpu_us,
                "take one more shard" if apart else "find room on one of them",
            ),
        ),
    )


def _load_of_calls(burden: Burden, load: Load) -> tuple[str, ...]:
    """Say what calls take of a shard's processor, memory and network."""
    costs, asked = burden.costs, burden.asked
    return (
        tell(
            "a renewal: {} µs + {} scripts × {} µs = {} µs",
            costs.redis_renew_us,
            burden.scripts(max(1, burden.held)),
            costs.redis_script_us,
            burden.redis_renewal_us(),
        ),
        tell(
            "processor: {} renewals × {} µs + {} calls × ({} + {}) µs + {} × {} × {} looks × {} "
            "µs = {} µs a second, of {} µs each",
            burden.renewals_per_s,
            burden.redis_renewal_us(),
            burden.calls_per_s,
            costs.redis_start_us,
            costs.redis_end_us,
            burden.watchdogs,
            TICKS,
            asked.partitions,
            costs.redis_tick_us,
            load.cpu_us,
            burden.budget_us,
        ),
        tell(
            "memory: {} × {} B + {} calls × {} s × {} B (ended, and remembered) = {} GiB, of {} GiB each",
            asked.sessions,
            costs.redis_session_bytes,
            burden.calls_per_s,
            asked.retention_s,
            costs.redis_ended_bytes,
            load.memory_bytes / GIB,
            asked.shard_gib,
        ),
        tell(
            "network: {} × {} B = {} Gbit/s, of {} each",
            burden.renewals_per_s,
            costs.renewal_bytes,
            load.wire_bytes * 8 / 1000000000.0,
            asked.network_gbit * asked.utilisation,
        ),
    )


def _services(burden: Burden) -> Figure:
    costs, asked = burden.costs, burden.asked
    both_us = costs.stream_start_us + costs.stream_stop_us
    load_us = burden.beats_per_s * costs.stream_beat_us + burden.starts_per_s * both_us
    return Figure(
        name="concurrency services",
        number=math.ceil(load_us / burden.budget_us) + asked.spares,
        because=(
            tell(
                "heartbeats: {} / {} s = {} a second; starts and stops: {} / {} s = {} a second",
                asked.streams,
                asked.stream_heartbeat_s,
                burden.beats_per_s,
                asked.streams,
                60 * asked.stream_minutes,
                burden.starts_per_s,
            ),
            tell(
                "{} × {} µs + {} × ({} + {}) µs = {} µs a second",
                burden.beats_per_s,
                costs.stream_beat_us,
                burden.starts_per_s,
                costs.stream_start_us,
                costs.stream_stop_us,
                load_us,
            ),
            tell("{} µs / {} µs, rounded up, + {} to spare", load_us, burden.budget_us, asked.spares),
        ),
    )


def _shards_of_streams(burden: Burden) -> Figure:
    costs, asked = burden.costs, burden.asked
    both_us = costs.redis_stream_start_us + costs.redis_stream_stop_us
    load = Load(
        cpu_us=burden.beats_per_s * costs.redis_stream_beat_us + burden.starts_per_s * both_us,
        memory_bytes=asked.streams * costs.redis_stream_bytes
        + burden.starts_per_s * asked.retention_s * costs.redis_ended_stream_bytes,
        wire_bytes=burden.beats_per_s * costs.beat_bytes,
    )
    return Figure(
        name="Redis shards for streams",
        number=max(1, math.ceil(burden.fullness(load))),
        because=(
            tell(
                "processor: {} × {} µs + {} × ({} + {}) µs = {} µs a second, of {} µs each",
                burden.beats_per_s,
                costs.redis_stream_beat_us,
                burden.starts_per_s,
                costs.redis_stream_start_us,
                costs.redis_stream_stop_us,
                load.cpu_us,
                burden.budget_us,
            ),
            tell(
                "memory: {} × {} B + {} × {} s × {} B (ended, and remembered) = {} GiB, of {} GiB each",
                asked.streams,
                costs.redis_stream_bytes,
                burden.starts_per_s,
                asked.retention_s,
                costs.redis_ended_stream_bytes,
                load.memory_bytes / GIB,
                asked.shard_gib,
            ),
            tell(
                "network: {} × {} B = {} Gbit/s, of {} each",
                burden.beats_per_s,
                costs.beat_bytes,
                load.wire_bytes * 8 / 1000000000.0,
                asked.network_gbit * asked.utilisation,
            ),
            tell("that fills {} shards; users are spread over all hash slots", burden.fullness(load)),
        ),
    )
