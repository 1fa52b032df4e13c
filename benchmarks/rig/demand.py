"""How much a city needs: detectors in; cores, memory, partitions, disk and network out. The tables of the sizing page.

Unit costs come from ``results/latest.json`` where they were measured, else from `UNITS`; the page says which.
``python -m benchmarks.rig.demand`` renews the page.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from citybrain.topics import TOPICS
from infra.kafka.admin import MESSAGE_MAX_BYTES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "sizing.md"
LATEST = ROOT / "benchmarks" / "results" / "latest.json"
BEGIN, END = "<!-- computed: python -m benchmarks.rig.demand -->", "<!-- end of what was computed -->"
SIZES = (10_000, 100_000, 1_000_000)
DAY_S = 86_400
HEADROOM = 3
"""Processors are given three times what the steady load takes: so an hour's backlog is worked off in half an hour."""
MOST_SEGMENTS = 150_000
"""A worker is given no more, so that it stays small and is restored quickly."""
FULLEST_MESSAGE = 0.5
"""Share of the largest message that the largest one may fill: neighbours keep a partition from being cut evenly."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit cost: where it is measured, and what is taken where it was not.

    Attributes
    ----------
    figure, figure_unit
        Regular expression of the figure's name in ``latest.json``, and its unit there.
    unit
        Of the value used here, and per what.
    fallback, source
        What is taken without a measurement, and where that comes from.
    scale
        Factor from the figure's unit.
    """

    figure: str
    figure_unit: str
    unit: str
    fallback: float
    source: str
    scale: float = 1.0

    def measured(self, rows: Sequence[Mapping[str, object]]) -> float | None:
        """Return the cost that a figure says; None where there is none."""
        for row in rows:
            named = re.search(self.figure, str(row["name"])) and row["unit"] == self.figure_unit
            if named and row.get("value"):
                return float(str(row["value"])) * self.scale
        return None


def _sized(name: str, unit: str, fallback: float) -> Unit:
    return Unit(rf"^sizing: {name}", unit.split()[0], unit, fallback, "`python -m benchmarks sizing`, 25 November 2026")


GOAL = "the goal; not measured"
COLUMNS = "CPU s per million readings"
WHOLE_READINGS = 6
"""Readings a segment and pane where ``whole_us`` is measured: three loops, every half minute."""
UNITS: dict[str, Unit] = {
    "reading_b": _sized("readings, bytes a reading", "B a reading", 49.82),
    "state_b": _sized("segment-states, bytes", "B a segment and pane", 110.2),
    "forecast_b": _sized("forecasts, bytes", "B a segment and pane", 244.2),
    "live_b": _sized("live-states, bytes", "B a segment and update", 110.2),
    "partial_b": _sized("area-partials, bytes", "B an area, partition and pane", 110.0),
    "snapshot_b": _sized("snapshot of aggregate, bytes", "B a segment and checkpoint", 49.17),
    "forecast_snapshot_b": _sized("snapshot of forecast, bytes", "B a segment and pane", 23.86),
    "warn_snapshot_b": _sized("snapshot of warn, bytes", "B a segment and pane", 39.76),
    "rollup_snapshot_b": _sized("snapshot of rollup, bytes", "B an area and partition", 484.3),
    "rollup_us": _sized("CPU of rollup", "us an area, partition and pane", 0.670),
    "live_us": _sized("CPU of live update", "us a segment and update", 0.111),
    "snapshot_us": _sized("CPU of snapshot of aggregate", "us a segment and checkpoint", 0.661),
    "rollup_snapshot_us": _sized("CPU of snapshot of rollup", "us an area, partition and pane", 2.163),
    "reading_us": Unit(
        r"^columns, 9,998 segments.*snapshots, one worker$", COLUMNS, "us a reading: clean, aggregate, roll-up", 0.6412,
        "docs/performance.md",
    ),
    "whole_us": Unit(
        r"^columns, 9,998 segments.*all stages of a worker$", COLUMNS,
        "us a reading: all stages, six readings a segment and pane", 4.905, "docs/performance.md",
    ),
    "memory_10k_mb": Unit(
        r"memory.*worker.* (?:9,998|10,000) segments|worker.* (?:9,998|10,000) segments.*memory", "MB",
        "MB, a worker with 10,000 segments", 300, GOAL,
    ),
    "memory_100k_mb": Unit(
        r"memory.*worker.* (?:99|100),\d+ segments|worker.* (?:99|100),\d+ segments.*memory", "MB",
        "MB, a worker with 100,000 segments", 1000, GOAL,
    ),
    "archive_b": Unit(
        r"^archive of a day, 9,998 segments", "GiB", "B a reading in the archive", 17.0, "docs/performance.md",
        2**30 / (9_998 * 2880),
    ),
    "duckdb_b": Unit(
        r"^store: bytes a segment and minute", "B", "B a segment and minute, DuckDB", 24.88, "docs/performance.md"
    ),
    "influx_b": Unit(
        r"^InfluxDB: bytes a segment and minute", "B", "B a segment and minute, InfluxDB", 76.0,
        "1.1 GB for 14.4 million rows",
    ),
    "influx_ms": Unit(
        r"^InfluxDB: a minute of (?:9,9|10,0)\d\d segments written", "ms",
        "ms for 10,000 rows, InfluxDB and its client on two cores",
        163.9, "14.4 million rows in 237 s",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class City:
    """What is asked about.

    Attributes
    ----------
    detectors
        How many report.
    interval_s
        How often each does.
    pane_s
        Length of a pane.
    a_segment, a_street
        Detectors a segment, segments a street (or another smallest area).
    checkpoint_s, live_s
        Settings ``time.checkpoint`` and ``time.provisional``.
    copies
        Replication of the topics.
    keep_days, rollup_days, archive_days
        Settings ``store.keep``, ``store.keep_rollups``, ``archive_keep``.
    """

    detectors: int
    interval_s: float = 30.0
    pane_s: float = 60.0
    a_segment: float = 1.0
    a_street: float = 20.0
    checkpoint_s: float = 1.0
    live_s: float = 1.0
    copies: int = 3
    keep_days: int = 14
    rollup_days: int = 400
    archive_days: int = 400

    @property
    def segments(self) -> float:
        """How many segments have a detector."""
        return self.detectors / self.a_segment

    @property
    def readings_s(self) -> float:
        """Readings a second."""
        return self.detectors / self.interval_s

    @property
    def areas(self) -> float:
        """Contributions of partitions to areas, a pane: about one a street."""
        return self.segments / self.a_street


def advised(detectors: int) -> City:
    """Return a city with the settings that the page advises for its size."""
    slow = detectors > 300_000
    return City(detectors, checkpoint_s=5.0 if slow else 1.0, live_s=5.0 if slow else 1.0)


def unit_costs(rows: Sequence[Mapping[str, object]]) -> tuple[dict[str, float], set[str]]:
    """Return the cost of each unit, four digits of it, and which of them were measured."""
    seen = {name: unit.measured(rows) for name, unit in UNITS.items()}
    costs = {name: UNITS[name].fallback if value is None else value for name, value in seen.items()}
    return {name: float(f"{value:.4g}") for name, value in costs.items()}, {
        name for name, value in seen.items() if value is not None
    }


def costs_on(page: str) -> dict[str, float]:
    """Return the unit costs that the page's table tells."""
    told = re.findall(r"^\| `(\w+)` \| ([\d.e+]+) \|", page, flags=re.M)
    return {name: float(value) for name, value in told}


def traffic(city: City, cost: Mapping[str, float]) -> dict[str, float]:
    """Return what is produced, B/s by topic; each copy costs it once more."""
    pane = city.segments / city.pane_s
    return {
        "readings": city.readings_s * cost["reading_b"],
        "segment-states": pane * cost["state_b"],
        "forecasts": pane * cost["forecast_b"],
        "area-partials": city.areas / city.pane_s * cost["partial_b"],
        "live-states": city.segments / city.live_s * cost["live_b"],
        "snapshots-aggregate": city.segments / city.checkpoint_s * cost["snapshot_b"],
        "snapshots-forecast": pane * cost["forecast_snapshot_b"],
        "snapshots-warn": pane * cost["warn_snapshot_b"],
    }


READERS = {"readings": 2, "segment-states": 4, "forecasts": 2, "area-partials": 1, "live-states": 1}
"""How many read a topic: stages, archive, store and page; snapshots are read at an assignment only."""
COMPACTION_S = 1_200.0
"""A compacted topic holds about two segments of ten minutes before the cleaner has been there."""


def kafka_disk_b(city: City, cost: Mapping[str, float]) -> float:
    """Return what all brokers together keep."""
    kept = 0.0
    for topic, bytes_s in traffic(city, cost).items():
        retention_ms = TOPICS[topic].retention_ms  # type: ignore[index]
        kept += bytes_s * (COMPACTION_S if retention_ms is None else retention_ms / 1000)
    return kept * city.copies


def partitions(city: City, cost: Mapping[str, float]) -> int:
    """Return how many partitions: 16, or so many that the largest message of one fits well."""
    largest = max(cost["forecast_b"], cost["state_b"], cost["snapshot_b"])
    needed = city.segments * largest / (FULLEST_MESSAGE * MESSAGE_MAX_BYTES)
    return max(16, 1 << max(0, math.ceil(math.log2(needed))))


def worker_cores(city: City, cost: Mapping[str, float]) -> dict[str, float]:
    """Return the processor time of all workers together, cores by what it goes to."""
    pane = city.segments / city.pane_s
    areas = city.areas / city.pane_s
    others_us = WHOLE_READINGS * max(0.0, cost["whole_us"] - cost["reading_us"])
    used = {
        "readings to panes": city.readings_s * cost["reading_us"],
        "forecasts, warnings, alerts, archive": pane * others_us,
        "roll-up of streets": areas * (cost["rollup_us"] + cost["rollup_snapshot_us"]),
        "live updates": city.segments / city.live_s * cost["live_us"],
        "snapshots": city.segments / city.checkpoint_s * cost["snapshot_us"],
    }
    return {name: micros / 1e6 for name, micros in used.items()}


def workers(city: City, cores: float) -> int:
    """Return how many: two at least, `HEADROOM` times the load, `MOST_SEGMENTS` each while one of them is away."""
    return max(2, math.ceil(HEADROOM * cores), 1 + math.ceil(city.segments / MOST_SEGMENTS))


def worker_memory_mb(city: City, workers: int, cost: Mapping[str, float]) -> float:
    """Return the memory of one of so many workers, one of which may be gone: a line through two measured sizes."""
    segments = city.segments / max(1, workers - 1)
    slope = (cost["memory_100k_mb"] - cost["memory_10k_mb"]) / 90_000
    return cost["memory_10k_mb"] + max(0.0, segments - 10_000) * slope


def rollup_limit(city: City, cost: Mapping[str, float]) -> float:
    """Return at how many detectors the roll-up's snapshot no longer fits into a message."""
    return MESSAGE_MAX_BYTES / cost["rollup_snapshot_b"] * city.a_street * city.a_segment


def table(cost: Mapping[str, float]) -> str:
    """Return what each size needs, as a Markdown table."""
    cities = [advised(size) for size in SIZES]
    rows: list[tuple[str, list[str]]] = [
        (
            "settings `time.checkpoint`, `time.provisional`",
            [f"{c.checkpoint_s:.0f} s, {c.live_s:.0f} s" for c in cities],
        ),
        ("readings a second", [f"{c.readings_s:,.0f}" for c in cities]),
        ("partitions", [str(partitions(c, cost)) for c in cities]),
    ]
    used = [worker_cores(c, cost) for c in cities]
    rows += [(f"cores: {name}", [_cores(each[name]) for each in used]) for name in used[0]]
    rows.append(("**workers' cores**, steady", [_cores(sum(each.values())) for each in used]))
    given = [workers(c, sum(each.values())) for c, each in zip(cities, used, strict=True)]
    rows.append(("**workers**, one core each", [str(n) for n in given]))
    memory = [worker_memory_mb(c, n, cost) for c, n in zip(cities, given, strict=True)]
    rows.append(("memory of each such worker", [_bytes(each * 1e6) for each in memory]))
    sent = [traffic(c, cost) for c in cities]
    rows += [(f"to Kafka: `{name}`", [_bytes(each[name]) + "/s" for each in sent]) for name in sent[0]]
    rows.append(("**to Kafka**", [_bytes(sum(each.values())) + "/s" for each in sent]))
    out = [sum(each[name] * times for name, times in READERS.items()) for each in sent]
    rows.append(("**from Kafka**, to all readers", [_bytes(each) + "/s" for each in out]))
    rows.append(("**Kafka's disks**, 3 copies, 7 days", [_bytes(kafka_disk_b(c, cost)) for c in cities]))
    daily = [c.segments * DAY_S / c.pane_s for c in cities]
    rows.append(("rows a second to the store", [f"{each / DAY_S:,.0f}" for each in daily]))
    share = [each / DAY_S / 10_000 * cost["influx_ms"] / 1000 for each in daily]
    rows.append(("of what InfluxDB was seen to take", [f"{each:.1%}" for each in share]))
    points = [each * c.keep_days + each * c.pane_s / 300 * c.rollup_days for each, c in zip(daily, cities, strict=True)]
    rows.append(("**InfluxDB's disk**, 14 days and 400 of 5 minutes", [_bytes(n * cost["influx_b"]) for n in points]))
    duck = [each * c.pane_s / 60 * c.keep_days * cost["duckdb_b"] for each, c in zip(daily, cities, strict=True)]
    rows.append(("or DuckDB's, 14 days", [_bytes(each) for each in duck]))
    archive = [c.readings_s * DAY_S * c.archive_days * cost["archive_b"] for c in cities]
    rows.append(("**archive**, 400 days", [_bytes(each) for each in archive]))
    head = "| detectors, one a segment, every 30 s | " + " | ".join(f"{size:,}" for size in SIZES) + " |"
    lines = [f"| {name} | {' | '.join(values)} |" for name, values in rows]
    return "\n".join([head, "|---|" + "---|" * len(SIZES), *lines])


def inputs(cost: Mapping[str, float], found: set[str]) -> str:
    """Return the unit costs as a Markdown table, and where each comes from."""
    origin = {
        name: "`benchmarks/results/latest.json`" if name in found else unit.source for name, unit in UNITS.items()
    }
    lines = [f"| `{name}` | {cost[name]:.6g} | {unit.unit} | {origin[name]} |" for name, unit in UNITS.items()]
    return "\n".join(["| name | cost | unit | from |", "|---|---|---|---|", *lines])


def _cores(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _bytes(value: float) -> str:
    for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value / 1e3:.3g} kB"


def ends(cost: Mapping[str, float]) -> str:
    """Return in words where the roll-up ends."""
    one = City(1)
    return (
        f"With {one.a_street:.0f} segments a street and one detector a segment the roll-up's snapshot"
        f" ({cost['rollup_snapshot_b']:.0f} B an area and partition) fills a message of"
        f" {MESSAGE_MAX_BYTES / 2**20:.0f} MiB at {rollup_limit(one, cost):,.0f} detectors."
    )


def computed(cost: Mapping[str, float], found: set[str]) -> str:
    """Return what stands between the markers of the page."""
    return f"{table(cost)}\n\n{ends(cost)}\n\n### Unit costs\n\n{inputs(cost, found)}"


def measured_rows() -> list[dict[str, object]]:
    """Return the rows of ``latest.json``; none where nothing was measured yet."""
    rows: list[dict[str, object]] = []
    if LATEST.exists():
        read = json.loads(LATEST.read_text("utf-8"))
        rows = read["figures"] if isinstance(read, dict) else read
    return rows


def renew() -> None:
    """Write the tables into the page."""
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    cost, found = unit_costs(measured_rows())
    PAGE.write_text(f"{before}{BEGIN}\n\n{computed(cost, found)}\n\n{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    renew()
