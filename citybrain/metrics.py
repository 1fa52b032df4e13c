"""Metrics: the one table of what is counted, and a registry made from it. Exposed at ``/metrics``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

MetricName = Literal[
    "citybrain_messages_total",
    "citybrain_readings_total",
    "citybrain_results_total",
    "citybrain_repeats_total",
    "citybrain_gaps_total",
    "citybrain_dead_letters_total",
    "citybrain_watermark_ms",
    "citybrain_checkpoint_seconds",
    "citybrain_snapshot_bytes",
    "citybrain_restore_seconds",
    "citybrain_store_write_seconds",
    "citybrain_store_errors_total",
    "citybrain_webhook_attempts_total",
    "citybrain_live_viewers",
    "citybrain_live_tick_bytes",
]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what it counts and by which labels."""

    name: MetricName
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    purpose: str


METRICS: dict[MetricName, Metric] = {
    metric.name: metric
    for metric in (
        Metric("citybrain_messages_total", "counter", ("stage",), "Messages applied by a stage."),
        Metric("citybrain_readings_total", "counter", ("source",), "Readings counted into panes."),
        Metric("citybrain_results_total", "counter", ("stage", "topic"), "Results sent by a stage."),
        Metric("citybrain_repeats_total", "counter", ("stage",), "Messages skipped because the snapshot covers them."),
        Metric("citybrain_gaps_total", "counter", ("stage",), "Offsets missing in a source: retention ran ahead."),
        Metric("citybrain_dead_letters_total", "counter", ("stage", "reason"), "Records refused, by reason."),
        Metric("citybrain_watermark_ms", "gauge", ("stage", "partition"), "Event-time watermark, ms since 1970 UTC."),
        Metric("citybrain_checkpoint_seconds", "histogram", ("stage",), "Time of a checkpoint."),
        Metric("citybrain_snapshot_bytes", "gauge", ("stage", "partition"), "Size of the newest snapshot."),
        Metric("citybrain_restore_seconds", "histogram", ("stage",), "Time to restore the assigned partitions."),
        Metric("citybrain_store_write_seconds", "histogram", (), "Time of a write to the store."),
        Metric(
            "citybrain_store_errors_total", "counter", ("kind",), "Writes that failed (tried again) or were refused."
        ),
        Metric("citybrain_webhook_attempts_total", "counter", ("endpoint", "outcome"), "Deliveries tried."),
        Metric("citybrain_live_viewers", "gauge", (), "Viewers of the live map."),
        Metric("citybrain_live_tick_bytes", "gauge", (), "Size of the newest live frame."),
    )
}


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self._by_name: Mapping[MetricName, Counter | Gauge | Histogram] = {
            name: kinds[metric.kind](name, metric.purpose, metric.labels, registry=self.registry)
            for name, metric in METRICS.items()
        }

    def count(self, name: MetricName, *labels: str, by: float = 1) -> None:
        """Add ``by`` to a counter."""
        metric = self._by_name[name]
        assert isinstance(metric, Counter), f"{name} is no counter"
        (metric.labels(*labels) if labels else metric).inc(by)

    def show(self, name: MetricName, value: float, *labels: str) -> None:
        """Set a gauge."""
        metric = self._by_name[name]
        assert isinstance(metric, Gauge), f"{name} is no gauge"
        (metric.labels(*labels) if labels else metric).set(value)

    def time(self, name: MetricName, seconds: float, *labels: str) -> None:
        """Record a duration, s."""
        metric = self._by_name[name]
        assert isinstance(metric, Histogram), f"{name} is no histogram"
        (metric.labels(*labels) if labels else metric).observe(seconds)
