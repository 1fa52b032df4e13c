from __future__ import annotations

import time

from citybrain.metrics import Metrics
from cli.lookout import FRESH_MS, Lookout
from infra.kafka.client import Brokers
from streams.progress import Look


def test_the_brokers_time_of_signals_does_not_pass_for_the_citys_clock() -> None:
    """A simulated city lives in another hour than the broker."""
    lookout = Lookout(Brokers("127.0.0.1:9"), list, Metrics())
    clock_ms = 1_700_000_000_000
    alert = Look("alert", "working", 0.0, record_ms={0: time.time_ns() // 1_000_000})
    fresh = Look("aggregate", "working", 0.0, watermark_ms={0: clock_ms - 30_000}, record_ms={0: clock_ms})
    assert lookout._old([fresh, alert]) == []
    old = Look("aggregate", "working", 0.0, watermark_ms={0: clock_ms - FRESH_MS - 1}, record_ms={0: clock_ms})
    [reason] = lookout._old([old, alert])
    assert "the watermark is" in reason
    lookout.stop()
