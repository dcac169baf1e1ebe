"""The metrics of one process, in the form that Prometheus reads.

Each program has a registry of its own, so that several can live in one process. Gauges are asked for
their value when they are read; nothing has to remember to set them. What is counted is kept where it happens, in
:mod:`mediaflow.telemetry.instruments`, and only shown here.

Names follow Prometheus' conventions: ``mediaflow_`` in front, base units, ``_total`` behind counters. A name means the
same in whichever program shows it, so that it can be summed over all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    Summary,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from mediaflow.telemetry.instruments import Instrument, Spread, Tally

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What one program counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        Info("mediaflow_build", "Which mediaflow this is.", registry=self._registry).info(
            {"version": metadata.version("mediaflow")}
        )
        self._requests = Spread(
            "http_request_seconds",
            "Time from the request's headers to the end of its answer.",
            _BUCKETS_S,
            "method",
            "route",
            "status",
        )
        self.show([self._requests])

    def gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Add a gauge ``mediaflow_<name>`` whose value is asked for whenever the metrics are read."""
        Gauge(f"mediaflow_{name}", about, registry=self._registry).set_function(value)

    def gauges(self, name: str, about: str, label: str, values: Callable[[], Mapping[str, float]]) -> None:
        """Add a gauge with a label; ``values`` returns what it shows for each value of that label."""
        self._registry.register(_Gauges(f"mediaflow_{name}", about, label, values))

    def show(self, instruments: Sequence[Instrument]) -> None:
        """Add what is kept elsewhere; it is read whenever the metrics are."""
        for instrument in instruments:
            self._registry.register(_Shown(instrument))

    def counter(self, name: str, about: str, value: Callable[[], int]) -> None:
        """Add a counter ``mediaflow_<name>_total`` whose value is asked for whenever the metrics are read."""
        self._registry.register(_Counter(f"mediaflow_{name}", about, value))

    def histogram(self, name: str, about: str, buckets: Sequence[float]) -> Callable[[float], None]:
        """Add a histogram ``mediaflow_<name>`` and return what is to be told each value."""
        spread = Spread(name, about, buckets)
        self.show([spread])
        return spread.observe

    def summary(self, name: str, about: str, label: str) -> Callable[[str, float], None]:
        """Add count and sum ``mediaflow_<name>`` by ``label``; return what is told a label's value and a number.

        Values of labels stay for ever: they must be few.
        """
        summary = Summary(f"mediaflow_{name}", about, (label,), registry=self._registry)
        return lambda value, amount: summary.labels(value).observe(amount)

    def observe_request(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count one answered HTTP request; ``route`` is its pattern, never the path itself."""
        self._requests.observe(took_s, method, route, str(status))

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format; :data:`CONTENT_TYPE` names it."""
        return generate_latest(self._registry)


class _Counter(Collector):
    """A counter that something else keeps."""

    def __init__(self, name: str, about: str, value: Callable[[], int]) -> None:
        self._name = name
        self._about = about
        self._value = value

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._about, value=self._value())


class _Gauges(Collector):
    """A gauge with a label, whose values something else knows."""

    def __init__(self, name: str, about: str, label: str, values: Callable[[], Mapping[str, float]]) -> None:
        self._name = name
        self._about = about
        self._label = label
        self._values = values

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._about, labels=[self._label])
        for label, value in self._values().items():
            family.add_metric([label], value)
        yield family


class _Shown(Collector):
    """An instrument as Prometheus reads it."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        match self._instrument:
            case Tally() as tally:
                yield _counter(tally)
            case Spread() as spread:
                yield _histogram(spread)


def _counter(tally: Tally) -> CounterMetricFamily:
    family = CounterMetricFamily(f"mediaflow_{tally.name}", tally.about, labels=tally.labels)
    for labels, value in tally.values.items():
        family.add_metric(labels, value)
    return family


def _histogram(spread: Spread) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"mediaflow_{spread.name}", spread.about, labels=spread.labels)
    bounds = [*(str(float(bound)) for bound in spread.bounds), "+Inf"]
    for labels, row in spread.rows.items():
        family.add_metric(labels, list(zip(bounds, row.cumulative(), strict=True)), row.sum)
    return family
