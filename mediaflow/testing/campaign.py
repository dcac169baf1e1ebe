"""Many runs at once: seeds handed out to processes, and what is to be said of those that broke a promise."""

import concurrent.futures
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mediaflow.testing.run import Verdict, run_seed

CHUNK = 8
"""Seeds that a process is given at a time."""

SHOWN_VIOLATIONS = 5


class Outcome(NamedTuple):
    """What came of many runs: ``failures`` in words, one for each seed that broke a promise."""

    done: int
    failures: list[str]
    seconds: float


def check_seeds(seeds: list[int], engine: str) -> list[str]:
    """Run seeds, and return what is to be said of those that broke a promise."""
    return [told(verdict) for seed in seeds if (verdict := run_seed(seed, engine)).violations]


def told(verdict: Verdict) -> str:
    """Say what a run broke, and how to see it again."""
    shown = verdict.violations[:SHOWN_VIOLATIONS]
    lines = [
        f"seed {verdict.seed} breaks {', '.join(sorted({one.guarantee for one in verdict.violations}))}:"
    ]
    lines += [f"  {one.guarantee} at {one.at_s:.3f} s: {one.message[:400]}" for one in shown]
    if more := len(verdict.violations) - len(shown):
        lines.append(f"  and {more} more")
    lines.append(f"  again, with its history: python -m mediaflow.testing --seed {verdict.seed} --transcript")
    return "\n".join(lines)


def run_many(
    first: int,
    seeds: int,
    jobs: int,
    engine: str,
    *,
    minutes: float = 0.0,
    until_broken: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _broken: None,
) -> Outcome:
    """Run seeds from ``first`` on in several processes.

    Args:
        first: The first seed.
        seeds: How many, at least.
        jobs: Processes.
        engine: What stands for Redis.
        minutes: Go on past ``seeds`` until so long has passed.
        until_broken: Hand no more seeds out once one broke a promise.
        on_progress: Told how many are done, and how many of them broke a promise.
    """
    began_s = time.monotonic()
    failures: list[str] = []
    done = 0

    def chunks() -> Iterator[list[int]]:
        for start in itertools.count(0, CHUNK):
            more_time = time.monotonic() - began_s < 60 * minutes
            if (start >= seeds and not more_time) or (until_broken and failures):
                return
            stop = start + CHUNK if more_time else min(start + CHUNK, seeds)
            yield list(range(first + start, first + stop))

    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        source = chunks()
        running = {
            pool.submit(check_seeds, chunk, engine): len(chunk)
            for chunk in itertools.islice(source, 2 * jobs)
        }
        while running:
            finished, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in finished:
                done += running.pop(future)
                failures.extend(future.result())
                for chunk in itertools.islice(source, 1):
                    running[pool.submit(check_seeds, chunk, engine)] = len(chunk)
            on_progress(done, len(failures))
    return Outcome(done, failures, time.monotonic() - began_s)
