"""Metrics of a measured process: counted as in the program, and told to who measures."""

from __future__ import annotations

from benchmarks.rig.telling import tell
from citybrain.metrics import MetricName, Metrics


class Counted(Metrics):
    """Metrics that a `Teller` can ask cheaply, and that tell at once when partitions come and work begins on them."""

    def __init__(self) -> None:
        super().__init__()
        self.readings = 0.0
        self.messages = 0.0
        self.refused = 0.0
        self._waits = False

    def count(self, name: MetricName, *labels: str, by: float = 1) -> None:
        """Add to a counter, and note what is told of it."""
        super().count(name, *labels, by=by)
        if name == "citybrain_readings_total":
            self.readings += by
        elif name == "citybrain_dead_letters_total":
            self.refused += by
        elif name == "citybrain_messages_total":
            if labels[0] in ("aggregate", "batcher"):
                self.messages += by
            if self._waits and labels[0] == "aggregate":
                self._waits = False
                tell(event="applied")
        elif name == "citybrain_rebalances_total":
            self._waits = True
            tell(event="assigned")

    def time(self, name: MetricName, seconds: float, *labels: str) -> None:
        """Record a duration; how long a restore took is told."""
        super().time(name, seconds, *labels)
        if name == "citybrain_restore_seconds":
            tell(event="restored", stage=labels[0], seconds=seconds)
