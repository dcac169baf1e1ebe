"""One call, one trace: from the client's request through the balancer and an instance to the handler's first line."""

import subprocess
import sys
from contextlib import AsyncExitStack
from importlib import metadata

import pytest
import structlog
from harness.surfaces import client_of, own_settings, own_store
from harness.waiting import eventually

from mediaflow.loadbalancer.courier import HttpCourier, Request, open_client
from mediaflow.runtime.instance import Instance
from mediaflow.telemetry import logs, tracing
from mediaflow.web.events import EventFeed
from mediaflow.worker.app import surface

trace = pytest.importorskip("opentelemetry.trace", reason="needs the extra otel")
pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra otel")

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.fixture
def spans(monkeypatch):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)  # which can be set but once in a process
    yield lambda: {span.name: span for span in exporter.get_finished_spans()}
    provider.shutdown()


class Stage:
    def __init__(self, client, instance):
        self.client, self.instance, self.seen = client, instance, []

    async def handle(self, session):
        context = trace.get_current_span().get_span_context()
        self.seen.append((context, logs._with_trace_id(None, "info", {}).get("trace_id")))
        await session.draining.wait()


@pytest.fixture
async def stage():
    settings = own_settings(slots=2, lease_ttl=60.0)
    found = Stage(None, None)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(own_store(settings))
        found.instance = Instance(store, found.handle, settings, address="127.0.0.1:1")
        await stack.enter_async_context(found.instance)
        await eventually(lambda: found.instance.ready, 10)
        face = surface(found.instance, store, settings, EventFeed(store))
        found.client = await stack.enter_async_context(client_of(face.application()))
        yield found


async def test_the_handler_runs_in_the_trace_of_the_clients_request(stage, spans):
    headers = {"traceparent": PARENT, "tracestate": "vendor=opaque"}
    async with stage.client.post("/calls/call-1", headers=headers) as answer:
        assert answer.status == 201
    await eventually(lambda: len(spans()) == 2 and stage.seen, 5)
    served, started = spans()["POST /calls/{callId}"], spans()["session start"]
    assert f"{served.context.trace_id:032x}" == TRACE_ID
    assert f"{served.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert started.parent.span_id == served.context.span_id
    assert started.context.trace_state.get("vendor") == "opaque"
    assert started.attributes["call.id"] == "call-1"
    assert started.attributes["instance.id"] == stage.instance.instance_id
    assert started.attributes["mediaflow.attempt"] == 1
    assert started.attributes["mediaflow.fence"] > 0
    ((inside, in_logs),) = stage.seen
    assert inside.span_id == started.context.span_id, "what the handler traces itself belongs below"
    assert in_logs == TRACE_ID


async def test_a_malformed_context_costs_nothing_and_a_new_trace_begins(stage, spans):
    for number, header in enumerate(("no context", f"{PARENT}-more", "00-" + "0" * 32 + PARENT[35:])):
        async with stage.client.post(f"/calls/call-{number}", headers={"traceparent": header}) as answer:
            assert answer.status == 201
    await eventually(lambda: len(stage.seen) == 2, 5)
    assert spans()["POST /calls/{callId}"].parent is None


async def test_the_balancer_carries_the_trace_on_and_an_instance_takes_it_up(stage, spans):
    async with open_client() as client:
        address = f"{stage.client.host}:{stage.client.port}"
        with tracing.span("asked", "server", {}, PARENT):
            answer = await HttpCourier(client).deliver(
                address, Request("call-1", b"{}", "key"), slot_only=False
            )
    assert answer.status == 201
    await eventually(lambda: "session start" in spans(), 5)
    assert spans()["POST /calls/{callId}"].parent.span_id == spans()["place"].context.span_id
    assert {f"{span.context.trace_id:032x}" for span in spans().values()} == {TRACE_ID}


def test_a_provider_that_the_environment_names_records_spans(monkeypatch):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    tracing._is_provider_named.cache_clear()
    assert not tracing.has_use_for("")
    monkeypatch.setenv("OTEL_PYTHON_TRACER_PROVIDER", "sdk_tracer_provider")
    tracing._is_provider_named.cache_clear()
    assert tracing.has_use_for("")
    trace.get_tracer_provider().shutdown()
    tracing._is_provider_named.cache_clear()


async def test_with_the_api_alone_no_spans_are_made_only_to_be_dropped(stage, monkeypatch):
    made = []
    monkeypatch.setattr(tracing, "_start", lambda *started: made.append(started))
    async with stage.client.post("/calls/call-1") as answer:
        assert answer.status == 201
    await eventually(lambda: stage.seen, 5)
    with tracing.span("place", "client", {}):
        pass
    assert not made


async def test_with_the_api_alone_a_trace_is_still_carried_on(stage):
    async with stage.client.post("/calls/call-1", headers={"traceparent": PARENT}) as answer:
        assert answer.status == 201
    await eventually(lambda: stage.seen, 5)
    ((inside, _),) = stage.seen
    assert f"{inside.trace_id:032x}" == TRACE_ID


def test_a_span_reads_no_file(monkeypatch, spans):
    asked, version = [], metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: asked.append(name) or version(name))
    for _ in range(3):
        with tracing.span("place", "client", {}):
            pass
    assert len(asked) <= 1


def test_without_the_extra_nothing_is_imported_and_nothing_changes():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from mediaflow.telemetry import tracing\n"
        "import mediaflow.worker, mediaflow.loadbalancer\n"
        "tracing.configure('x')\n"
        "with tracing.span('a', 'server', {}, '') as span: span.status(500)\n"
        f"assert tracing.received([{PARENT!r}], []) == tracing.carried() == ''\n"
        "assert not tracing.headers()\n"
        "tracing.begin('a', 'consumer', {}, '').handled()\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.')]\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_traces_that_are_asked_for_in_vain_are_said_to_be():
    lines = []

    def note(_, __, event):
        lines.append(event)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[note], cache_logger_on_first_use=False)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_TRACES_EXPORTER", "no_such_exporter")
            tracing.configure("x")
    finally:
        structlog.configure(**before)
    assert [line["event"] for line in lines] == ["tracing.no_exporter"]
