"""What a report of the bench says of a machine that is made up."""

from mediaflow.bench.conditions import Conditions

CONDITIONS = Conditions(
    cpu="a processor",
    cores=2,
    load_average=0.1,
    system="Linux 6",
    python="CPython 3.11",
    redis_server="redis-server 7.0.15",
    quick=False,
    rounds=2,
    packages={"redis": "8.1.0", "arq": None},
)
