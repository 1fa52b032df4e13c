"""The chart and the measured part of the page are made from a run's results and from nothing else."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

from tests.torture.chart import BEGIN, CHART, END, PAGE, RESULTS, chart, measured, page

SVG = "{http://www.w3.org/2000/svg}"


def results(**changes: Any) -> dict[str, Any]:
    """Return the results of a small run."""
    return {
        "date": "2026-11-25",
        "machine": "Linux, 2 cores",
        "plan": {
            "kills": 2, "seed": 7, "store": "duckdb", "workers": 2, "partitions": 8, "segments": 164,
            "detectors": 211, "feed_s": 120, "city_min": 90,
        },
        "exact": True,
        "kills": 2,
        "readings": 1000,
        "counted": 1000,
        "alerts": 3,
        "undisturbed_alerts": [4, 3],
        "refused": {"late": 20},
        "checks": [{"name": "sums", "seen": 50, "wrong": []}],
        "happened": [
            {"at_s": 10.0, "kind": "worker", "note": "worker-0"},
            {"at_s": 30.0, "kind": "zombie", "note": "worker-1 for 13 s"},
            {"at_s": 60.0, "kind": "broker", "note": "back after 2 s"},
        ],
        "in": [[0.0, 0], [60.0, 600], [120.0, 1000]],
        "counted_curve": [[5.0, 0], [70.0, 600], [130.0, 1000]],
    } | changes  # fmt: skip


def test_the_chart_is_whole_and_draws_both_curves_and_every_fault() -> None:
    drawn = ElementTree.fromstring(chart(results()))
    assert [line.get("class") for line in drawn.iter(f"{SVG}polyline")] == ["in", "out"]
    told = [title.text for title in drawn.iter(f"{SVG}title")]
    assert told[1:] == [
        "10.0 s: worker, worker-0",
        "30.0 s: zombie, worker-1 for 13 s",
        "60.0 s: broker, back after 2 s",
    ]


def test_both_curves_end_at_the_same_height_when_all_was_counted() -> None:
    heights = [points.split()[-1].split(",")[1] for points in re.findall(r'points="([^"]+)"', chart(results()))]
    assert heights[0] == heights[1]
    fewer = [points.split()[-1].split(",")[1] for points in re.findall(
        r'points="([^"]+)"', chart(results(counted_curve=[[5.0, 0], [130.0, 800]]))
    )]  # fmt: skip
    assert float(fewer[1]) > float(fewer[0])


def test_the_measured_part_tells_what_does_not_hold() -> None:
    bad = [{"name": "sums", "seen": 50, "wrong": ["segment 3 differs"]}]
    assert "| sums | 50 | exact |" in measured(results())
    assert "| sums | 50 | **not so** |" in measured(results(checks=bad))


def test_only_the_measured_part_of_the_page_is_renewed() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    renewed = page(text, results())
    assert renewed.startswith(f"before\n{BEGIN}\n")
    assert renewed.endswith(f"{END}\nafter\n")
    assert "old" not in renewed
    assert page(renewed, results()) == renewed


def test_the_page_and_the_chart_are_those_of_the_last_results() -> None:
    last = json.loads(RESULTS.read_text())
    assert last["exact"]
    assert PAGE.read_text() == page(PAGE.read_text(), last)
    assert CHART.read_text() == chart(last)
