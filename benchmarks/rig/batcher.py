"""A batcher that tells how far it is: ``python -m benchmarks.rig.batcher CITY BROKERS RUN``, until a signal."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from threading import Event

from benchmarks.rig.counted import Counted
from benchmarks.rig.telling import Teller, tell
from citybrain.cityfile import load_city, load_network
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer
from ingest.batcher import Batcher


def main(folder: Path, brokers: Brokers, run: str) -> None:
    """Batch until a signal comes."""
    settings, metrics, stop = load_city(folder), Counted(), Event()
    network = load_network(settings)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    batcher = Batcher(brokers, network, BatchProducer(brokers, run), run=run, metrics=metrics)
    tell(event="ready", messages=0)
    Teller(lambda: {"messages": metrics.messages})
    batcher.run(stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Brokers(sys.argv[2]), sys.argv[3])
