"""Quix Streams as documented: ``python -m benchmarks.peers.quix_windows BROKERS TOPIC COUNT``, telling how far it is.

JSON readings, keyed by detector, summed over windows of a minute.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import timedelta
from typing import Any

from quixstreams import Application

from benchmarks.rig.telling import Teller, tell


def main(brokers: str, topic: str) -> None:
    """Run until a signal comes."""
    count = [0]
    app = Application(
        broker_address=brokers, consumer_group="documented-quix", auto_offset_reset="earliest",
        state_dir=tempfile.mkdtemp(), loglevel="ERROR",
    )  # fmt: skip

    def flow_of(reading: dict[str, Any]) -> float:
        count[0] += 1
        return float(reading["flow_vph"])

    frame = app.dataframe(app.topic(topic, value_deserializer="json"))
    frame = frame.apply(flow_of).tumbling_window(timedelta(minutes=1), grace_ms=90_000).sum().final()
    tell(event="ready", readings=0)
    Teller(lambda: {"readings": float(count[0])})
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
