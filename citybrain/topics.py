"""Topics: the one table of what travels through Kafka. Everything that names a topic takes it from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TopicName = Literal[
    "readings",
    "readings-json",
    "passages",
    "events",
    "segment-states",
    "live-states",
    "detector-health",
    "area-partials",
    "area-indices",
    "forecasts",
    "signals",
    "alerts",
    "dead-letters",
    "snapshots-aggregate",
    "snapshots-rollup",
    "snapshots-match",
    "snapshots-forecast",
    "snapshots-warn",
    "snapshots-alert",
]

PREFIX = "citybrain"
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes
    ----------
    name
        Its name without the prefix.
    record
        What a message holds.
    key
        What the key says.
    spread
        ``city``: as many partitions as the network has; ``one``: a single partition.
    retention_ms
        How long messages are kept; None keeps the newest of each key (compaction).
    purpose
        One sentence for the documentation.
    appended
        True where the record time is when the broker took the message, whatever the sender says.
    """

    name: TopicName
    record: str
    key: str
    spread: Literal["city", "one"]
    retention_ms: int | None
    purpose: str
    appended: bool = False

    @property
    def compacted(self) -> bool:
        """True where Kafka keeps only the newest message of each key."""
        return self.retention_ms is None

    def partitions(self, city_partitions: int) -> int:
        """Return its number of partitions in a city with ``city_partitions``."""
        return city_partitions if self.spread == "city" else 1


def _snapshots(stage: str, spread: Literal["city", "one"]) -> Topic:
    name: TopicName = f"snapshots-{stage}"  # type: ignore[assignment]
    return Topic(name, "snapshot", "partition", spread, None, f"State of `{stage}` and the next offset it covers.")


_WEEK = 7 * DAY_MS

TOPICS: dict[TopicName, Topic] = {
    topic.name: topic
    for topic in (
        Topic("readings", "readings (Arrow)", "source", "city", _WEEK, "Detector readings as columns; heartbeats."),
        Topic(
            "readings-json", "one reading (JSON)", "detector", "city", _WEEK, "One reading a message, for the batcher."
        ),
        Topic("passages", "passages (Arrow)", "camera", "one", DAY_MS, "Plate passages, pseudonymised at the edge."),
        Topic("events", "event (JSON)", "event id", "one", _WEEK, "Incidents, works, closures, citizens' reports."),
        Topic(
            "segment-states",
            "segment-states (Arrow)",
            "partition/pane",
            "city",
            _WEEK,
            "State of every segment by pane.",
        ),
        Topic(
            "live-states",
            "segment-states (Arrow)",
            "partition",
            "city",
            10 * 60_000,
            "Open panes, for the screen only.",
        ),
        Topic(
            "detector-health",
            "detector-health (Arrow)",
            "partition",
            "city",
            None,
            "Detectors that are not well, and why.",
        ),
        Topic(
            "area-partials",
            "area-partials (Arrow)",
            "partition/pane",
            "one",
            _WEEK,
            "A partition's sums for each area.",
        ),
        Topic("area-indices", "area-indices (Arrow)", "pane", "one", _WEEK, "Indices of street, district and city."),
        Topic(
            "forecasts", "forecasts (Arrow)", "partition/pane", "city", _WEEK, "Speed 5 to 60 min ahead with quantiles."
        ),
        Topic(
            "signals",
            "signals (JSON)",
            "partition/pane",
            "one",
            _WEEK,
            "What the warning models say of segments.",
            appended=True,
        ),
        Topic(
            "alerts", "alert (JSON)", "alert id", "one", 30 * DAY_MS, "Life cycle of alerts, one per cause and place."
        ),
        Topic(
            "dead-letters", "dead letter (JSON)", "reason", "one", 30 * DAY_MS, "Records that were refused, and why."
        ),
        _snapshots("aggregate", "city"),
        _snapshots("rollup", "one"),
        _snapshots("match", "one"),
        _snapshots("forecast", "city"),
        _snapshots("warn", "city"),
        _snapshots("alert", "one"),
    )
}


def topic_address(name: TopicName, run: str = "") -> str:
    """Return the topic's name on the broker; a replay run has topics of its own.

    Examples
    --------
    >>> topic_address("readings"), topic_address("readings", "r1")
    ('citybrain.readings', 'citybrain.r1.readings')
    """
    return f"{PREFIX}.{run}.{name}" if run else f"{PREFIX}.{name}"


def group_address(role: str, run: str = "") -> str:
    """Return the consumer group of a role; a replay run has groups of its own.

    Examples
    --------
    >>> group_address("worker"), group_address("worker", "r1")
    ('citybrain.worker', 'citybrain.r1.worker')
    """
    return f"{PREFIX}.{run}.{role}" if run else f"{PREFIX}.{role}"
