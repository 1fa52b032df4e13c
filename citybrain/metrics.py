"""Metrics: the one table of what is counted, and a registry made from it. Exposed at ``/metrics``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

MetricName = Literal[
    "citybrain_messages_total",
    "citybrain_readings_total",
    "citybrain_left_out_total",
    "citybrain_results_total",
    "citybrain_repeats_total",
    "citybrain_gaps_total",
    "citybrain_made_up_total",
    "citybrain_dead_letters_total",
    "citybrain_watermark_ms",
    "citybrain_checkpoint_seconds",
    "citybrain_snapshot_bytes",
    "citybrain_restore_seconds",
    "citybrain_store_write_seconds",
    "citybrain_store_errors_total",
    "citybrain_lag_messages",
    "citybrain_watermark_delay_seconds",
    "citybrain_held_messages",
    "citybrain_saved_at_seconds",
    "citybrain_generation",
    "citybrain_rebalances_total",
    "citybrain_restarts_total",
    "citybrain_ready",
    "citybrain_feed_messages_total",
    "citybrain_feed_readings_total",
    "citybrain_feed_newest_ms",
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
        Metric(
            "citybrain_left_out_total", "counter", ("verdict",), "Readings not counted: their detector is not believed."
        ),
        Metric("citybrain_results_total", "counter", ("stage", "topic"), "Results sent by a stage."),
        Metric("citybrain_repeats_total", "counter", ("stage",), "Messages skipped because the snapshot covers them."),
        Metric("citybrain_gaps_total", "counter", ("stage",), "Offsets missing in a source: retention ran ahead."),
        Metric("citybrain_made_up_total", "counter", ("stage",), "Messages not handed out in order, and read again."),
        Metric("citybrain_dead_letters_total", "counter", ("stage", "reason"), "Records refused, by reason."),
        Metric("citybrain_watermark_ms", "gauge", ("stage", "partition"), "Event-time watermark, ms since 1970 UTC."),
        Metric("citybrain_checkpoint_seconds", "histogram", ("stage",), "Time of a checkpoint."),
        Metric("citybrain_snapshot_bytes", "gauge", ("stage", "partition"), "Size of the newest snapshot."),
        Metric("citybrain_restore_seconds", "histogram", ("stage",), "Time to restore the assigned partitions."),
        Metric("citybrain_store_write_seconds", "histogram", (), "Time of a write to the store."),
        Metric(
            "citybrain_store_errors_total", "counter", ("kind",), "Writes that failed (tried again) or were refused."
        ),
        Metric("citybrain_lag_messages", "gauge", ("stage", "topic", "partition"), "Messages not yet applied."),
        Metric(
            "citybrain_watermark_delay_seconds",
            "gauge",
            ("stage", "partition"),
            "How far the watermark is behind the newest record time applied, s.",
        ),
        Metric("citybrain_held_messages", "gauge", ("stage",), "Messages applied and not yet acknowledged."),
        Metric(
            "citybrain_saved_at_seconds", "gauge", ("stage",), "When the last checkpoint was complete, s since 1970."
        ),
        Metric("citybrain_generation", "gauge", ("role",), "Generation of the consumer group."),
        Metric("citybrain_rebalances_total", "counter", ("role",), "Generations of the group that were joined."),
        Metric("citybrain_restarts_total", "counter", ("role", "why"), "Apps that ended by `crash` or as `stuck`."),
        Metric("citybrain_ready", "gauge", (), "1 while this process's stages or feeds are ready, else 0."),
        Metric("citybrain_feed_messages_total", "counter", ("feed",), "Messages of a feed, heartbeats included."),
        Metric("citybrain_feed_readings_total", "counter", ("feed",), "Readings of a feed that are durable."),
        Metric(
            "citybrain_feed_newest_ms", "gauge", ("feed",), "Newest record time a feed has sent, ms since 1970 UTC."
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
        ProcessCollector(registry=self.registry)  # memory, processor time, open files; on Linux
        kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self._counters: dict[tuple[MetricName, tuple[str, ...]], Counter] = {}
        self._by_name: Mapping[MetricName, Counter | Gauge | Histogram] = {
            name: kinds[metric.kind](name, metric.purpose, metric.labels, registry=self.registry)
            for name, metric in METRICS.items()
        }

    def count(self, name: MetricName, *labels: str, by: float = 1) -> None:
        """Add ``by`` to a counter."""
        counter = self._counters.get((name, labels))
        if counter is None:
            metric = self._by_name[name]
            assert isinstance(metric, Counter), f"{name} is no counter"
            # Asking for a metric by its labels costs more than counting; and nobody drops counters.
            counter = self._counters[name, labels] = metric.labels(*labels) if labels else metric
        counter.inc(by)

    def show(self, name: MetricName, value: float, *labels: str) -> None:
        """Set a gauge."""
        metric = self._by_name[name]
        assert isinstance(metric, Gauge), f"{name} is no gauge"
        (metric.labels(*labels) if labels else metric).set(value)

    def drop(self, name: MetricName, *labels: str) -> None:
        """Show a gauge no more for these labels: what it tells of belongs to another process now."""
        with contextlib.suppress(KeyError):
            self._by_name[name].remove(*labels)

    def time(self, name: MetricName, seconds: float, *labels: str) -> None:
        """Record a duration, s."""
        metric = self._by_name[name]
        assert isinstance(metric, Histogram), f"{name} is no histogram"
        (metric.labels(*labels) if labels else metric).observe(seconds)
