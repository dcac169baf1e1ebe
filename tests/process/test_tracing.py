"""One trace across balancer, worker and, when the worker is killed, the next one: through real processes and Redis."""

import json
import os

import pytest
from harness.api import Api
from harness.processes import ROOT
from harness.waiting import eventually

pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra otel")
pytestmark = [pytest.mark.redis, pytest.mark.slow]

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT_SPAN = "00f067aa0ba902b7"
LEASE = ("--lease-ttl", "3")
APP = ("--app", "harness.handlers:idle")


@pytest.fixture
def spans(fleet, tmp_path):
    folder = tmp_path / "spans"
    folder.mkdir()
    paths = (ROOT / "tests" / "harness" / "spans", ROOT, ROOT / "tests")
    fleet.environ |= {"HARNESS_SPANS": str(folder), "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return lambda: [json.loads(line) for path in folder.iterdir() for line in path.read_text().splitlines()]


async def test_a_call_is_one_trace_from_the_client_to_the_handler_that_took_it_over(fleet, http, spans):
    await fleet.watchdog(*LEASE)
    workers = dict(
        zip(("alpha", "beta"), await fleet.workers("alpha", "beta", arguments=(*LEASE, *APP)), strict=True)
    )
    api = Api(http, (await fleet.balancer(*LEASE)).url)
    headers = {"traceparent": f"00-{TRACE_ID}-{CLIENT_SPAN}-01"}
    owner = (await api.ask("POST", "/calls/call-1", json={}, headers=headers)).body["owner"]

    def starts():
        return [span for span in spans() if span["name"] == "session start"]

    (first,) = await eventually(starts, 10)
    by_id = {span["span"]: span for span in spans()}
    way = [first]
    while way[-1]["parent"] in by_id:
        way.append(by_id[way[-1]["parent"]])
    assert [span["name"] for span in way] == [
        "session start",
        "POST /calls/{callId}",
        "place",
        "POST /calls/{callId}",
    ]
    assert way[-1]["parent"] == CLIENT_SPAN
    assert len({span["pid"] for span in way}) == 2, "the balancer's and the worker's"
    workers[owner].kill()
    await eventually(starts, 10, until=lambda found: len(found) == 2)
    second = next(span for span in starts() if span["pid"] != first["pid"])
    assert {span["trace"] for span in (*way, second)} == {TRACE_ID}
    assert second["parent"] == first["parent"], "the request that it all began with"
    assert (second["attributes"]["instance.id"], second["attributes"]["mediaflow.cause"]) == (
        next(name for name in workers if name != owner),
        "takeover",
    )
    assert second["attributes"]["mediaflow.fence"] > first["attributes"]["mediaflow.fence"]


async def test_a_call_that_had_to_wait_is_started_in_the_trace_of_its_request(fleet, http, spans):
    await fleet.watchdog(*LEASE)
    worker = await fleet.worker("alpha", 1, *LEASE, *APP)
    api = Api(http, worker.url)
    await api.submit("first")
    headers = {"traceparent": f"00-{TRACE_ID}-{CLIENT_SPAN}-01"}
    waiting = await api.ask("POST", "/calls/second", json={}, headers=headers)
    assert waiting.body["state"] == "pending"
    await api.end("first")

    def starts():
        return [
            span
            for span in spans()
            if span["name"] == "session start" and span["attributes"]["call.id"] == "second"
        ]

    (started,) = await eventually(starts, 10)
    assert started["trace"] == TRACE_ID
