"""All contests, in the order in which they are run and told."""

from mediaflow.bench.contest import Contest
from mediaflow.bench.contests.dispatch import DISPATCH

CONTESTS: tuple[Contest, ...] = (DISPATCH,)
