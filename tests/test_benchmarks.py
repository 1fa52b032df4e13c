"""Benchmarks can be run, and the page shows what was measured. No figure is judged here."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import LONG, main, merged, names
from benchmarks.figure import Figure, absent, repeated
from benchmarks.rig import page

STAMPS = {"machine": "a machine", "load": 0.1, "when": "2026-11-25T10:00:00+00:00", "commit": "abc"}


@pytest.mark.parametrize("name", names())
def test_every_benchmark_can_be_imported_and_run(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    offered = [getattr(module, part) for part in ("run", "run_long") if hasattr(module, part)]
    assert offered
    assert all(callable(part) for part in offered)


def test_a_figure_as_json_has_name_value_unit_and_peer() -> None:
    figure = repeated("worker", [0.6, 0.4, 0.45], "CPU s", peer="plain loop", peer_value=0.2, at_most=0.5)
    row = json.loads(json.dumps(figure.row(), allow_nan=False))
    assert {key: row[key] for key in ("name", "value", "unit", "peer")} == {
        "name": "worker",
        "value": 0.45,
        "unit": "CPU s",
        "peer": "plain loop",
    }
    assert (row["peer_value"], row["low"], row["high"], row["met"]) == (0.2, 0.4, 0.6, True)


def test_a_figure_made_of_numpy_values_is_plain_json() -> None:
    values = np.array([1.5, 2.5, 2.0])
    row = repeated("two workers", values, "times", at_least=1.8, peer_value=values.min(), wall_s=values.max()).row()
    assert json.loads(json.dumps(row)) == row
    assert row["met"] is True


def test_a_figure_that_could_not_be_had_says_why_and_meets_no_goal() -> None:
    row = absent("influx", "ms", "skipped: no influxd").row()
    assert (row["value"], row["note"], "met" in row) == (None, "skipped: no influxd", False)
    assert Figure("x", math.nan, "s", at_most=1).met is None


@pytest.mark.parametrize(
    ("value", "most", "least", "met"), [(2, 2, None, True), (3, 2, None, False), (1.7, None, 1.8, False)]
)
def test_a_goal_in_numbers_is_judged(value: float, most: float | None, least: float | None, met: bool) -> None:
    assert Figure("x", value, "s", at_most=most, at_least=least).met is met


def test_a_run_of_one_benchmark_keeps_the_rows_of_the_others() -> None:
    def row(benchmark: str, value: int) -> page.Row:
        return {"benchmark": benchmark, "name": "n", "value": value}

    first, second = names()[:2]
    before = [row(first, 1), row(first + LONG, 2), row(second, 3), row("no-longer-there", 4)]
    after = merged(before, [row(first, 5)], [first])
    assert [(r["benchmark"], r["value"]) for r in after] == [(first, 5), (first + LONG, 2), (second, 3)]


def test_the_page_shows_value_span_goal_peer_and_place() -> None:
    missed = Figure("worker", 0.6, "CPU s", at_most=0.5, low=0.5, high=0.7, peer="plain loop", peer_value=0.2)
    rows = [{"benchmark": "columns", **figure.row(), **STAMPS} for figure in (missed, Figure("tick", 14850.0, "ms"))]
    text = page.with_tables(f"before {page.BEGIN} old {page.END} after", rows)
    assert "| worker | 0.6 CPU s | 0.5 - 0.7 | at most 0.5, **missed** | plain loop: 0.2 CPU s |" in text
    assert "| tick | 14,850 ms |  |  |  |" in text
    assert "on 2026-11-25 at abc, a machine, load before each 0.1 to 0.1 (`columns`)" in text
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert "old" not in text


def test_a_page_without_its_markers_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match="a marker is not there"):
        page.with_tables("no markers", [])


def test_the_page_is_what_was_measured() -> None:
    text = page.PAGE.read_text("utf-8")
    assert page.latest(), "no results"
    assert page.with_tables(text, page.latest()) == text


def test_a_benchmark_that_fails_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(name: str) -> tuple[list[page.Row], bool]:
        well = name == "second"
        figure = Figure("tick", 1.0, "ms") if well else absent(name, "", "failed: exit code 1")
        return [{"benchmark": name, **figure.row(), **STAMPS}], well

    monkeypatch.setattr("benchmarks.__main__.names", lambda: ["first", "second"])
    monkeypatch.setattr("benchmarks.__main__.measured", measured)
    monkeypatch.setattr(page, "latest", lambda: page_rows)
    monkeypatch.setattr(page, "keep", lambda rows: page_rows.__setitem__(slice(None), rows))
    monkeypatch.setattr(page, "renew", lambda: None)
    page_rows: list[page.Row] = []
    assert main([], long=False) == 1
    assert [(row["name"], row["value"]) for row in page_rows] == [("first", None), ("tick", 1.0)]
    assert main(["second"], long=False) == 0
    assert main(["third"], long=False) == 2
    assert "no benchmark third" in capsys.readouterr().err
