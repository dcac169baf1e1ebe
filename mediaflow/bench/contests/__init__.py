"""All contests, in the order in which they are run and told."""

from mediaflow.bench.contest import Contest
from mediaflow.bench.contests.burst import BURST
from mediaflow.bench.contests.crash import CRASH
from mediaflow.bench.contests.dispatch import DISPATCH, OVER_HTTP
from mediaflow.bench.contests.hop import HOP
from mediaflow.bench.contests.memory import MEMORY
from mediaflow.bench.contests.primaries import PRIMARIES
from mediaflow.bench.contests.renewal import RENEWAL
from mediaflow.bench.contests.short import SHORT
from mediaflow.bench.contests.streams import SIGNED_STREAMS, STREAMS
from mediaflow.bench.contests.takeover import TAKEOVER

CONTESTS: tuple[Contest, ...] = (
    DISPATCH,
    OVER_HTTP,
    SHORT,
    CRASH,
    BURST,
    HOP,
    STREAMS,
    SIGNED_STREAMS,
    RENEWAL,
    TAKEOVER,
    MEMORY,
    PRIMARIES,  # the last: its servers go on running until the run ends
)
