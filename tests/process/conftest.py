"""Which tests of programs run on a Redis Cluster and behind Sentinel as well: what they see depends on the store."""

import pytest

EVERYWHERE = {"test_admission", "test_concurrency", "test_measures", "test_metrics", "test_watchdog_program"}
"""Not among them: what has a Redis of its own (test_up, test_durability, test_doctor, test_redis_conf), mistakes that
are told before Redis is asked, and what is about processes, terminals, media, documents and traces."""

MISTAKES = {"test_settings_that_cannot_be_are_one_line_and_status_two"}


def pytest_generate_tests(metafunc):
    touches = "fleet" in metafunc.fixturenames and "redis_server" not in metafunc.fixturenames
    touches = touches and metafunc.function.__name__ not in MISTAKES
    if touches and metafunc.module.__name__.rpartition(".")[2] in EVERYWHERE:
        kinds = ["redis", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("cluster", "sentinel"))]
        metafunc.parametrize("redis_url", kinds, indirect=True)


@pytest.fixture
def redis_url(request):
    """Where the programs of ``fleet`` find Redis: one server, unless the test runs on several kinds."""
    kind = getattr(request, "param", "redis")
    if kind == "redis":
        return request.getfixturevalue("redis_server").url
    place = request.getfixturevalue("topologies")(kind)
    place.empty()
    return place.url
