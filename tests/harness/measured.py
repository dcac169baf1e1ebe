"""A stage, contestants and conditions of the bench that are made up."""

from mediaflow.bench.conditions import Conditions
from mediaflow.bench.contest import Contest, Contestant, Metric

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


class FakeStage:
    def __init__(self, *, quick=False):
        self.quick, self.size, self.log = quick, 0, []

    async def clear(self):
        self.log.append("clear")


def measuring(name, *figures, **keywords):
    answers = iter(figures)

    async def measure(stage):
        stage.log.append(name)
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return {"p50": answer}

    return Contestant(name, measure, **keywords)


def contest(ours, *others, sizes=(0,)):
    return Contest("race", "who is first", (Metric("p50", "ms", "lower"),), ours, others, sizes)
