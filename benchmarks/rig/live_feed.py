"""A live feed that tells what it sends: ``python -m benchmarks.rig.live_feed CITY BROKERS SECONDS``.

Every loop reports every second, partitions spread over the second, stamped by the machine's clock. The speed of every
segment is constant but for one fall, at an instant of its own: what is seen of it elsewhere tells the delay.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.rig.telling import tell
from citybrain.cityfile import load_city, load_network
from citybrain.network import Network
from citybrain.records import Readings, encode
from citybrain.wire import Output
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer

BEFORE_KMH, AFTER_KMH = 50.0, 15.0
QUIET_S = 20
"""No speed falls so soon, nor in the last few seconds."""
LAST_S = 6


def falls(segments: int, seconds: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return in which second the speed of each segment falls."""
    return np.random.default_rng(3).integers(QUIET_S, seconds - LAST_S, segments)


def main(folder: Path, brokers: Brokers, seconds: int) -> None:
    """Send for so many seconds."""
    network = load_network(load_city(folder))
    fall = falls(len(network.segments), seconds)
    producer = BatchProducer(brokers, timeout_s=30)
    start_s = time.time()
    parts = [np.flatnonzero(network.detector_partition == p).astype(np.int32) for p in range(network.partitions)]
    before_ms = [round((start_s + p / network.partitions - 1) * 1000) for p in range(network.partitions)]
    for second in range(seconds):
        for partition, detector in enumerate(parts):
            time.sleep(max(0.0, start_s + second + partition / network.partitions - time.time()))
            now_ms = round(time.time() * 1000)
            slow = fall[network.detectors.segment[detector]] <= second
            batch = _batch(network, detector, before_ms[partition], now_ms, np.where(slow, AFTER_KMH, BEFORE_KMH))
            before_ms[partition] = now_ms
            sent_s = time.time()
            producer.send([Output("readings", partition, b"loops", encode(batch), now_ms)], now_ms)
            tell(second=second, partition=partition, sent_s=sent_s, to_ms=now_ms, rows=len(detector))
    producer.flush()
    tell(event="ended")


def _batch(
    network: Network,
    detector: np.ndarray[tuple[int], np.dtype[np.int32]],
    from_ms: int,
    to_ms: int,
    speed: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> Readings:
    n = len(detector)
    none, well = np.full(n, np.nan), np.zeros(n, dtype=np.uint8)
    return Readings(
        network.version, "loops", to_ms, to_ms, detector, np.full(n, from_ms), np.full(n, to_ms),
        none, np.full(n, 900.0), speed, np.full(n, 0.1), none, *([well] * 5),
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Brokers(sys.argv[2]), int(sys.argv[3]))
