"""What a running sweep tells Prometheus: one table of names, and whoever passes them on.

Names are the same on `--metrics-port` and, with `ray_` before them, on the ports that Ray exports. Only the driver
records, also what the aggregator reports to it, so no series comes and goes with a worker. docs/telemetry.md holds the
table for people; a test holds the two together.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from grid.errors import BadInput

LABELS = ("state", "strategy", "tier", "cause")
"""Each takes a handful of values; sessions, symbols, trials and parameters are no labels."""
COMMIT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Metric:
    """One name: what it counts, in base units, and the labels it has. A counter ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


TABLE = (
    Metric("grid_trials_total", "counter", "Trials committed, by state: ok or failed.", ("strategy", "state")),
    Metric(
        "grid_units",
        "gauge",
        "Units now, by state: running, queued (at a worker), again, unsent (1 for all), uncommitted.",
        ("state",),
    ),
    Metric("grid_units_finished_total", "counter", "Units that ended, by state: done or given_up.", ("state",)),
    Metric(
        "grid_attempts_total",
        "counter",
        "Attempts at units: first, worker_died, node_died, overdue, bars_lost, batch_lost, moved, split, copied.",
        ("cause",),
    ),
    Metric("grid_kernel_seconds_total", "counter", "CPU seconds that workers spent evaluating units.", ("strategy",)),
    Metric("grid_cpu_seconds_total", "counter", "Seconds times CPUs that the sweep held."),
    Metric("grid_cpus", "gauge", "CPUs that the sweep holds."),
    Metric("grid_efficiency_ratio", "gauge", "Kernel seconds over CPU seconds held, since the driver started."),
    Metric(
        "grid_queue_depth",
        "gauge",
        "Units sent or waiting to be tried again, and 1 more while some were never sent; 0 once the driver ends.",
    ),
    Metric(
        "grid_read_bytes_total",
        "counter",
        "Bytes of the files of bars read, by tier: store, or cache (the node's).",
        ("tier",),
    ),
    Metric("grid_commit_seconds", "histogram", "How long a commit took, parts and record."),
    Metric("grid_storage_retries_total", "counter", "Storage operations that were tried again."),
    Metric("grid_heartbeat_timestamp_seconds", "gauge", "When the driver last wrote its heartbeat, Unix time."),
    Metric(
        "grid_cost_total", "counter", "CPU hours held times cluster.price_per_cpu_hour, in the currency of the price."
    ),
)
BY_NAME = {metric.name: metric for metric in TABLE}


class Sink(Protocol):
    """Where records go. A counter is given what is added, a gauge its value, a histogram one observation."""

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Take in one record."""


class PrometheusSink:
    """Every metric of the table in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in TABLE:
            self._add(metric)

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """See `Sink.record`."""
        if metric.kind == "counter":
            counter = self._counters[metric.name]
            (counter.labels(**labels) if labels else counter).inc(value)
        elif metric.kind == "gauge":
            gauge = self._gauges[metric.name]
            (gauge.labels(**labels) if labels else gauge).set(value)
        else:
            self._histograms[metric.name].observe(value)

    def value(self, name: str, **labels: str) -> float | None:
        """The present value of a series; None when it has none."""
        return self.registry.get_sample_value(name, labels)

    def _add(self, metric: Metric) -> None:
        if metric.kind == "counter":
            self._counters[metric.name] = Counter(metric.name, metric.help, metric.labels, registry=self.registry)
        elif metric.kind == "gauge":
            self._gauges[metric.name] = Gauge(metric.name, metric.help, metric.labels, registry=self.registry)
        else:
            self._histograms[metric.name] = Histogram(
                metric.name, metric.help, metric.labels, registry=self.registry, buckets=COMMIT_BUCKETS_S
            )


class Telemetry:
    """Passes records on to its sinks: always to `prometheus`, for a while to others."""

    def __init__(self) -> None:
        self.prometheus = PrometheusSink()
        self._sinks: tuple[Sink, ...] = (self.prometheus,)

    def record(self, name: str, value: float, **labels: str) -> None:
        """Record under a name of the table with exactly its labels. Raises KeyError and ValueError for others."""
        metric = BY_NAME[name]
        if tuple(sorted(labels)) != tuple(sorted(metric.labels)):
            raise ValueError(f"{name} has the labels {metric.labels}, not {tuple(labels)}")
        for sink in self._sinks:
            sink.record(metric, value, labels)

    @contextmanager
    def also(self, sink: Sink) -> Iterator[None]:
        """Within the block records go to `sink` too."""
        self._sinks = (*self._sinks, sink)
        try:
            yield
        finally:
            self._sinks = tuple(s for s in self._sinks if s is not sink)

    @contextmanager
    def served(self, port: int) -> Iterator[int]:
        """Within the block http://127.0.0.1:PORT/metrics answers; yields the port, a free one for 0.

        Raises BadInput when the port is taken.
        """
        try:
            server, thread = start_http_server(port, addr=LOOPBACK, registry=self.prometheus.registry)
        except (OSError, OverflowError) as error:
            raise BadInput(
                f"--metrics-port {port} cannot be opened ({error}); name another port, or 0 for a free one."
            ) from error
        try:
            yield server.server_port
        finally:
            with suppress(OSError):
                server.shutdown()
            server.server_close()
            thread.join()


def markdown() -> str:
    """The table as docs/telemetry.md shows it."""
    head = "| name | kind | labels | what it is |\n|---|---|---|---|\n"
    rows = (f"| `{m.name}` | {m.kind} | {', '.join(m.labels) or '-'} | {m.help} |\n" for m in TABLE)
    return head + "".join(rows)
