"""What does not grow with the number of machines, and so breaks first."""

from mediaflow.bench.plan.answer import Limit, tell
from mediaflow.bench.plan.burden import (
    CONNECTIONS,
    CORE_US,
    LONGEST_READING_S,
    READINGS_A_BALANCER,
    READINGS_A_WATCHDOG,
    Burden,
    Load,
)

_FEWER = "fewer, larger instances: more --slots"


def limits(burden: Burden, load: Load, registry: Load, balancers: int) -> list[Limit]:
    """Return all limits, in no order; ``balancers`` is how many of them read the registry."""
    return [
        _partition(burden, load),
        *_registry(burden, registry, balancers),
        *_connections(burden, burden.workers + balancers + burden.watchdogs),
    ]


def _partition(burden: Burden, load: Load) -> Limit:
    partitions = burden.asked.partitions
    return Limit(
        "one partition",
        burden.fullness(load) / partitions,
        1.0,
        "shard",
        "a partition lives on one shard: no more shards than partitions are of use",
        "more --partitions (1,024 at most; fixed when a namespace is first used), or several namespaces",
    )


def _registry(burden: Burden, registry: Load, balancers: int) -> list[Limit]:
    """Return the limits of reading, again and again, what instances there are."""
    costs, asked, workers = burden.costs, burden.asked, burden.workers
    readings = balancers * READINGS_A_BALANCER + burden.watchdogs * READINGS_A_WATCHDOG
    return [
        Limit(
            "the registry's shard",
            registry.cpu_us,
            burden.budget_us,
            "µs a second",
            tell(
                "all of it has one hash tag: {} instances × ({} µs + {} readings × {} µs) a second",
                workers,
                costs.redis_heartbeat_us,
                readings,
                costs.redis_reading_us,
            ),
            _FEWER,
        ),
        Limit(
            "the network of the registry's shard",
            registry.wire_bytes * 8 / 1e9,
            asked.network_gbit * asked.utilisation,
            "Gbit/s",
            tell("every balancer and watchdog reads all instances, {} B each", costs.reading_bytes),
            _FEWER,
        ),
        Limit(
            "a balancer's readings",
            READINGS_A_BALANCER * workers * costs.reader_us,
            burden.budget_us,
            "µs a second",
            "what reading the instances leaves of a core is what calls are placed with",
            _FEWER,
        ),
        Limit(
            "one watchdog",
            burden.watching_us(),
            burden.budget_us,
            "µs a second",
            "each watches over everything: it cannot be shared out",
            _FEWER,
        ),
        Limit(
            "one reading of the registry",
            workers * (costs.reader_us + costs.redis_reading_us) / CORE_US,
            LONGEST_READING_S,
            "s",
            "an instance beats once a second; who seems silent for 1.5 s, a reading included, is given no sessions",
            _FEWER,
        ),
    ]


def _connections(burden: Burden, processes: int) -> list[Limit]:
    asked = burden.asked
    return [
        Limit(
            "connections of a watchdog",
            burden.workers,
            asked.files,
            "files",
            "one idle connection to each instance, by which it is seen to die",
            tell("{}; LimitNOFILE of its unit", _FEWER),
        ),
        Limit(
            "connections of a Redis",
            processes * CONNECTIONS,
            asked.clients,
            "clients",
            tell("each of {} processes has one for requests and one for messages", processes),
            tell("{}; maxclients of Redis, and its LimitNOFILE", _FEWER),
        ),
    ]
