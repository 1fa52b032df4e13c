"""bytewax as documented: ``python -m benchmarks.peers.bytewax_flow BROKERS TOPIC COUNT``, telling how far it is.

JSON readings, keyed by detector, summed over event-time windows of a minute.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.connectors.kafka import KafkaSource
from bytewax.connectors.stdio import StdOutSink
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

from benchmarks.rig.telling import Teller, tell

BEGAN = datetime(2020, 1, 1, tzinfo=UTC)


def flow_of(brokers: str, topic: str, count: list[int]) -> Any:
    """Return the flow."""

    def read(message: Any) -> tuple[str, dict[str, Any]]:
        count[0] += 1
        reading = json.loads(message.value)
        return reading["detector"], reading

    flow = Dataflow("documented")
    raw = op.input("in", flow, KafkaSource([brokers], [topic], tail=False))
    keyed = op.map("read", raw, read)
    clock = win.EventClock(
        lambda reading: datetime.fromtimestamp(reading["observed_to"] / 1000, UTC), timedelta(seconds=90)
    )
    windows = win.fold_window(
        "sum", keyed, clock, win.TumblingWindower(timedelta(minutes=1), BEGAN), float,
        lambda total, reading: total + reading["flow_vph"], lambda a, b: a + b,
    )  # fmt: skip
    op.output("out", op.filter("none", op.map("text", windows.down, str), lambda text: False), StdOutSink())
    return flow


def main(brokers: str, topic: str) -> None:
    """Run it to the end of the topic."""
    count = [0]
    tell(event="ready", readings=0)
    Teller(lambda: {"readings": float(count[0])})
    run_main(flow_of(brokers, topic, count))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
