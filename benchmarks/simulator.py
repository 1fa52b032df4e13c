"""The simulated city: the demo city's weekday morning in a process of its own, with all its sensors.

Processor time is measured: the model runs on one core, and a busy machine would otherwise count twice.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks.figure import Figure
from citybrain.cityfile import load_city, load_network
from citybrain.clock import epoch_ms

CITY = Path(__file__).resolve().parent.parent / "cities" / "porto"
HOURS = 1.5


def _morning() -> tuple[float, float, float, int]:
    from simulators.city import SimulatedCity

    settings = load_city(CITY)
    network = load_network(settings)
    began = time.process_time()
    city = SimulatedCity(network, settings.simulated[0], settings.timezone)
    begin_ms = epoch_ms(datetime(2026, 3, 10, 7, tzinfo=ZoneInfo(settings.timezone)))
    batches = city.batches(begin_ms)
    next(batches)
    warm_s = time.process_time() - began
    began = time.process_time()
    for batch in batches:
        if batch.watermark_ms >= begin_ms + HOURS * 3_600_000:
            break
    cpu_s = time.process_time() - began
    batches.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return warm_s, cpu_s, memory, len(network.segments)


def run() -> list[Figure]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        warm_s, cpu_s, memory, segments = pool.apply(_morning)
    speed = HOURS * 3600 / cpu_s
    return [
        Figure(f"simulated morning peak, {segments:,} segments", speed, "x real time", "1,500 over a day"),
        Figure("simulated city, night to first readings of 07:00", warm_s, "s of one core", "6"),
        Figure("simulated city, memory of its process", memory, "MB", "250"),
    ]
