"""The simulated city at its goals: a weekday with all sensors, seven days, and the whole of Porto's extract.

Processor time is measured: the model runs on one core, and a busy machine would otherwise count twice. Each part runs
in a process of its own, so that its memory is its own. The extract is no part of the product (``CITYBRAIN_SHARED_DATA``
names the folder where ``osm/porto.osm.pbf`` is); without it that part is skipped.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import structlog

from benchmarks.figure import Figure, absent
from citybrain.cityfile import load_city, load_network
from citybrain.network import Network
from citybrain.settings import SimulatedFeed
from ingest.maps.build import BuildOptions, network_of
from ingest.maps.detectors import no_detectors
from ingest.maps.links import largest_part
from ingest.maps.osm import MAIN_CLASSES, MINOR_CLASSES, junctions_of, links_of, read_ways
from simulators.calendar import on
from simulators.city import SimulatedCity
from simulators.day import DayRun

ROOT = Path(__file__).resolve().parent.parent
CITY = ROOT / "cities" / "porto"
TRIPS, DAYS = 350_000, 7
WHOLE_TRIPS, WHOLE_HOURS = 1_000_000, 8
"""The whole extract is run from 03:30 until its morning peak is over: the slower half of a day."""
TUESDAY = date(2026, 3, 10)
MEMORY_MB = 250


def run() -> list[Figure]:
    """Return speed and memory of a weekday."""
    cpu_s, seconds, memory, segments = _alone(_weekday)
    name = f"demo city, {segments:,} segments, a weekday of {TRIPS:,} trips with all sensors"
    return [
        Figure(name, seconds / cpu_s, "x real time", at_least=1500, cpu_s=cpu_s),
        Figure(f"{name}, memory", memory, "MB", at_most=MEMORY_MB),
    ]


def run_long() -> list[Figure]:
    """Return memory over seven days, and speed and memory of the whole extract."""
    after_three, after_all = _alone(_week)
    week = Figure(
        f"demo city, memory after {DAYS} days against that after 3",
        after_all / after_three,
        "times",
        at_most=1.05,
        note=f"{after_all:.0f} MB",
    )
    extract = Path(os.environ.get("CITYBRAIN_SHARED_DATA", ROOT.parent / "shared" / "data")) / "osm" / "porto.osm.pbf"
    name = f"Porto's whole extract, {WHOLE_TRIPS:,} trips a day, night to the end of the morning peak"
    if not extract.exists():
        return [week, absent(name, "x real time", "skipped: needs osm/porto.osm.pbf of the shared data")]
    cpu_s, seconds, memory, segments = _alone(_whole, extract)
    return [
        week,
        Figure(name, seconds / cpu_s, "x real time", at_least=50, cpu_s=cpu_s, note=f"{segments:,} segments"),
        Figure(f"{name}, memory", memory, "MB"),
    ]


def whole(extract: Path) -> Network:
    """Return the network of all roads of an extract, not joined, without detectors."""
    classes = [kind for name in (*MAIN_CLASSES, *MINOR_CLASSES) for kind in (name, f"{name}_link")]
    ways = read_ways(extract, classes=classes)
    links = largest_part(links_of(ways, junctions_of(ways)))
    return network_of(links, BuildOptions("Porto", 4, lambda links: no_detectors()))


def _alone(work: Callable[..., Any], *args: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, args)


def _city(network: Network, feed: SimulatedFeed) -> SimulatedCity:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return SimulatedCity(network, feed, "Europe/Lisbon")


def _demo() -> SimulatedCity:
    settings = load_city(CITY)
    return _city(load_network(settings), replace(settings.simulated[0], trips=TRIPS))


def _weekday() -> tuple[float, float, float, int]:
    city = _demo()
    day = city.run_of(on(TUESDAY, city.timezone))
    cpu_s = _timed(day)
    return cpu_s, day.engine.now_s, _peak_mb(), len(city.network.segments)


def _timed(day: DayRun) -> float:
    """Run a day to its end, with all that its roadside tells; return processor seconds."""
    began = time.process_time()
    for _ in day.batches(day.day.start_ms):
        pass
    return time.process_time() - began


def _week() -> tuple[float, float]:
    city, peaks = _demo(), []
    for nth in range(DAYS):
        day = city.run_of(on(TUESDAY + timedelta(days=nth), city.timezone))
        _timed(day)
        del day  # or two days would be in memory
        peaks.append(_peak_mb())
    return peaks[2], peaks[-1]


def _whole(extract: Path) -> tuple[float, float, float, int]:
    network = whole(extract)
    city = _city(network, SimulatedFeed(trips=WHOLE_TRIPS))
    day = city.run_of(on(TUESDAY, city.timezone))
    began = time.process_time()
    for _ in range(WHOLE_HOURS * 3600):
        day.step()
    return time.process_time() - began, day.engine.now_s, _peak_mb(), len(network.segments)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
