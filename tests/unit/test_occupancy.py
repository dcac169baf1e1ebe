"""Who looks at a user's streams sees the rules as a start would meet them."""

from mediaflow.core.occupancy import Playing, occupancy
from mediaflow.core.policy import Rule, user_rule

PLAYING = [
    Playing("tv", {"channel": "one", "kind": "live"}),
    Playing("tv", {"channel": "two", "kind": "live"}),
    Playing("phone", {"channel": "one", "kind": "film"}),
]


def counted(rule: Rule) -> list[tuple[str | None, int, bool, tuple[int, ...]]]:
    return [(one.value, one.taken, one.full, one.streams) for one in occupancy([rule], PLAYING)]


def test_the_limit_of_the_user_counts_streams_or_devices():
    assert counted(user_rule(3, "stream")) == [(None, 3, True, (0, 1, 2))]
    assert counted(user_rule(3, "device")) == [(None, 2, False, (0, 1, 2))]


def test_a_rule_by_attribute_is_shown_for_each_value_that_plays():
    by_channel = Rule(policy="channel", attribute="channel", max=2)
    assert counted(by_channel) == [("one", 2, True, (0, 2)), ("two", 1, False, (1,))]


def test_a_rule_counts_only_the_streams_it_is_about():
    live = Rule(policy="live", where={"kind": "live"}, max=5, count="devices")
    assert counted(live) == [(None, 1, False, (0, 1))]


def test_a_rule_that_counts_nothing_is_shown_and_one_that_allows_nothing_is_full():
    assert counted(Rule(policy="four", attribute="resolution", max=1)) == [(None, 0, False, ())]
    assert counted(Rule(policy="none", where={"kind": "radio"}, max=0)) == [(None, 0, True, ())]
