"""Spans of a call's way from the client's request to the handler's first line, for those who use OpenTelemetry.

Without the extra ``otel`` nothing here does anything, and nothing is imported. With it, spans go to whatever tracer
provider the process has; :func:`configure` makes one where the environment says where to export to.
"""

import functools
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import structlog

from mediaflow.core import traces

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

log: Any = structlog.get_logger("mediaflow.tracing")

Kind = Literal["server", "client", "consumer"]
_OTLP = "otlp"
_OTLP_HTTP = "otlp_proto_http"
_UNKNOWN = object()
_WISHES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@functools.cache
def available() -> bool:
    """Tell whether the API of OpenTelemetry is installed."""
    try:
        import opentelemetry.trace  # noqa: F401 # pyright: ignore[reportUnusedImport]
    except ImportError:
        return False
    return True


def configure(service: str) -> None:
    """Export spans as the environment says, by its usual variables; one that was set up before is left alone.

    ``OTEL_EXPORTER_OTLP_ENDPOINT`` is enough; ``OTEL_TRACES_EXPORTER`` names another exporter, or ``none``.

    Args:
        service: What the service is called, unless ``OTEL_SERVICE_NAME`` says so.
    """
    wanted = os.environ.get("OTEL_TRACES_EXPORTER") or _OTLP
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or wanted == "none" or not any(os.environ.get(name) for name in _WISHES):
        return
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("tracing.not_installed", advice="OTEL_* asks for traces: pip install 'mediaflow[otel]'")
        return
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    name = _OTLP_HTTP if wanted == _OTLP else wanted
    found = metadata.entry_points(group="opentelemetry_traces_exporter", name=name)
    if not found:
        log.warning("tracing.no_exporter", exporter=wanted, advice="install the package that has it")
        return
    # Named by the environment, the service's name is taken from there by the SDK itself.
    attributes = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(resource=Resource.create(attributes))
    provider.add_span_processor(BatchSpanProcessor(next(iter(found)).load()()))
    trace.set_tracer_provider(provider)


def received(parents: Sequence[str], states: Sequence[str]) -> str:
    """Return the trace context that a request came with, from its headers of these names; empty without one."""
    return traces.carry(parents[0], ",".join(states)) if available() and len(parents) == 1 else ""


def carried() -> str:
    """Return the current trace context, to be sent or stored; empty without one."""
    if not available() or not _api().get_current_span().get_span_context().is_valid:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(found)
    return traces.carry(found.get("traceparent", ""), found.get("tracestate", ""))


def headers() -> Mapping[str, str]:
    """Return the headers by which a request carries the current trace context on."""
    return traces.headers(carried())


class Spanned:
    """A span that may not be there."""

    def __init__(self, span: "Span | None" = None) -> None:
        """Stand for a span."""
        self._span = span

    def status(self, code: int) -> None:
        """Note the status of an HTTP answer; the server's own failures are errors."""
        if self._span is None:
            return
        self._span.set_attribute("http.response.status_code", code)
        if code >= 500:
            self._failed(str(code))

    def failed(self, error: BaseException) -> None:
        """Note that what it stands for failed."""
        if self._span is not None:
            self._failed(type(error).__name__)

    def handled(self) -> None:
        """End it, and be the parent of what the current task does from now on."""
        if self._span is None:
            return
        from opentelemetry import context, trace

        self._span.end()
        # Never detached: the context is the task's own, and ends with it.
        context.attach(trace.set_span_in_context(self._span))

    def _failed(self, kind: str) -> None:
        from opentelemetry.trace import StatusCode

        if self._span is not None:
            self._span.set_attribute("error.type", kind)
            self._span.set_status(StatusCode.ERROR)


@contextmanager
def span(
    name: str, kind: Kind, attributes: Mapping[str, str | int], parent: str | None = None
) -> Generator[Spanned]:
    """Have a span meanwhile, current in this context.

    Args:
        name: Of few values.
        kind: Its role.
        attributes: What it tells.
        parent: A context that was carried, empty for none; None for the current one.
    """
    if not has_use_for(parent or ""):
        yield Spanned()
        return
    found = _start(name, kind, attributes, parent)
    spanned = Spanned(found)
    with _api().use_span(found, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield spanned
        except Exception as error:
            spanned.failed(error)
            raise


def begin(name: str, kind: Kind, attributes: Mapping[str, str | int], parent: str) -> Spanned:
    """Begin a span that :meth:`Spanned.handled` ends; see :func:`has_use_for`."""
    return Spanned(_start(name, kind, attributes, parent)) if available() else Spanned()


def has_use_for(parent: str) -> bool:
    """Tell whether a span would be recorded by anybody, or carry a trace on that came from elsewhere.

    Ask it first where much is done: the API alone, which other packages bring along, takes a tenth of a call's time
    to make spans that it drops.
    """
    return available() and (parent != "" or _is_recorded())


def _start(name: str, kind: Kind, attributes: Mapping[str, str | int], parent: str | None) -> "Span":
    from opentelemetry.trace import SpanKind

    context = None if parent is None else _context(parent)
    return _tracer().start_span(name, context, SpanKind[kind.upper()], dict(attributes))


def _context(parent: str) -> "Context":
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(traces.headers(parent), Context())


def _tracer() -> "Tracer":
    from opentelemetry import trace

    return trace.get_tracer("mediaflow", _version())


def _is_recorded() -> bool:
    """Tell whether spans go anywhere: without a provider the API hands them to one that drops them."""
    if getattr(_api(), "_TRACER_PROVIDER", _UNKNOWN) is None and not _is_provider_named():
        # Asked for it, the API would look into the environment each time: a tenth of what a call costs an instance.
        return False
    return not isinstance(_api().get_tracer_provider(), _api().ProxyTracerProvider)


@functools.cache
def _is_provider_named() -> bool:
    """Tell whether the API is to load a provider by itself when it is first asked for one."""
    return "OTEL_PYTHON_TRACER_PROVIDER" in os.environ


@functools.cache
def _api() -> Any:
    # An import inside a function looks the module up, and its names, each time: for what each session asks.
    from opentelemetry import trace

    return trace


@functools.cache
def _version() -> str:
    # Read from a file and parsed as an email: a millisecond each time.
    return metadata.version("mediaflow")
