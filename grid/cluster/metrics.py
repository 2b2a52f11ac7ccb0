"""Telemetry on Ray's own metrics."""

from collections.abc import Mapping
from typing import Any

from ray.util import metrics

from grid.telemetry import COMMIT_BUCKETS_S, Metric


class RaySink:
    """Records go to Ray's own metrics, and so to its Dashboard: the names of `grid/telemetry.py` after `ray_`."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """See `grid.telemetry.Sink`."""
        known = self._known.get(metric.name) or self._known.setdefault(metric.name, _ray_metric(metric))
        tags = dict(labels)
        if metric.kind == "gauge":
            known.set(value, tags)
        elif metric.kind == "histogram":
            known.observe(value, tags)
        elif value > 0:
            known.inc(value, tags)


def _ray_metric(metric: Metric) -> Any:
    if metric.kind == "gauge":
        return metrics.Gauge(metric.name, metric.help, metric.labels)
    if metric.kind == "histogram":
        return metrics.Histogram(metric.name, metric.help, list(COMMIT_BUCKETS_S), metric.labels)
    return metrics.Counter(metric.name, metric.help, metric.labels)
