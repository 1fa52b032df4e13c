"""How slow the demo city's weekday is, by the truth of a run without incidents: busy peaks, an empty night."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from benchmarks.figure import Figure
from citybrain.cityfile import load_city, load_network

CITY = Path(__file__).resolve().parent.parent / "cities" / "porto"
TUESDAY = date(2026, 3, 10)


def run() -> list[Figure]:
    from simulators.level import city_with, level_of

    settings = load_city(CITY)
    feed = settings.simulated[0]
    level = level_of(city_with(load_network(settings), feed, settings.timezone, feed.trips), TUESDAY)
    note = f"{feed.trips:,} trips; slowest half hour"
    return [
        Figure("demo city, travel time index, morning", level.morning, "", at_least=1.4, at_most=2.2, note=note),
        Figure("demo city, travel time index, noon", level.mean(11, 14), "", at_most=1.2),
        Figure("demo city, travel time index, evening", level.evening, "", at_least=1.5, at_most=2.2, note=note),
        Figure("demo city, travel time index, night", level.mean(0, 4), "", at_most=1.03),
        Figure("demo city, vehicles left at 04:00", float(level.on_road[-1]), "", at_most=500),
    ]
