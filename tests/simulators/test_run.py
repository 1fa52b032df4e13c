from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from citybrain.errors import ConfigError
from citybrain.settings import SimulatedFeed
from simulators.calendar import Day
from simulators.city import SimulatedCity
from simulators.places import Place
from simulators.run import Span, gridlock, run_days
from simulators.runfolder import RunFolder
from simulators.scenario import Closure, Scenario
from tests.fakes import grid_network

LISBON = "Europe/Lisbon"
GRID = grid_network(columns=3, rows=2)
FEED = SimulatedFeed(trips=400, incidents_per_day=20.0, faulty_share=0.1)
TWO_DAYS = Scenario("Two days", first=date(2026, 3, 10), days=2)
ABOUT = {"scenario": "two", "seed": 1, "network": GRID.version}
KILLED = """
import sys, datetime
from pathlib import Path
from tests.simulators import test_run as t

def told(day, at_ms):
    if day.date == datetime.date(2026, 3, 11) and at_ms > day.start_ms + 3_600_000:
        print("in the second day", flush=True)
        sys.stdin.read()

folder = t.RunFolder(Path(sys.argv[1]), t.ABOUT)
folder.open()
t.run_days(t.city(), t.Span.of(t.TWO_DAYS, "06:00"), folder, told)
"""


def city(scenario: Scenario = TWO_DAYS) -> SimulatedCity:
    return SimulatedCity(GRID, FEED, LISBON, scenario=scenario)


def opened(path: Path, about: dict[str, object] = ABOUT, *, anew: bool = False) -> RunFolder:
    folder = RunFolder(path, about)
    folder.open(anew=anew)
    return folder


def hashes(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    assert run_days(city(), Span.of(TWO_DAYS, "06:00"), opened(path)) == 2
    return path


def test_a_run_has_readings_truth_and_says_what_it_is(whole: Path) -> None:
    said = json.loads((whole / "run.json").read_text())
    assert {name: said[name] for name in ABOUT} == ABOUT
    assert [day["date"] for day in said["days"]] == ["2026-03-10", "2026-03-11"]
    assert (said["days"][1]["until_ms"] - said["days"][1]["from_ms"]) == 2 * 3_600_000, "the last day ends at 06:00"
    rows = sum(pq.read_metadata(path).num_rows for path in (whole / "readings").glob("*.parquet"))
    assert rows == said["rows"]["readings"] > 0
    assert len(list((whole / "truth").glob("segments-*.parquet"))) == 26
    assert not list(whole.glob(".*")), "nothing hidden is left"


def test_the_same_run_is_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    run_days(city(), Span.of(TWO_DAYS, "06:00"), opened(tmp_path / "again"))
    assert hashes(tmp_path / "again") == hashes(whole)


def test_a_run_that_was_killed_goes_on_after_its_last_whole_day(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "killed"
    arguments = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("in the second day" in line for line in lines)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert [day["date"] for day in json.loads((path / "run.json").read_text())["days"]] == ["2026-03-10"]
    assert (path / ".day-2026-03-11.partial").exists()
    assert not [file for file in (path / "readings").iterdir() if file.name > "20260311T04"], (
        "no half day is to be seen"
    )
    assert run_days(city(), Span.of(TWO_DAYS, "06:00"), opened(path)) == 1
    assert hashes(path) == hashes(whole)


def test_a_run_goes_on_though_its_city_lies_elsewhere_now(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    folder = RunFolder(path, ABOUT, {"city_folder": "/elsewhere"})
    folder.open()
    assert run_days(city(), Span.of(TWO_DAYS, "06:00"), folder) == 0
    assert json.loads((path / "run.json").read_text())["city_folder"] == "/elsewhere"


def test_a_report_goes_with_the_run_that_it_is_of(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    (path / "judged").mkdir()
    (path / "judged" / "report.html").write_text("of the run before")
    opened(path, anew=True)
    assert not (path / "judged").exists()


def test_a_day_whose_files_were_not_all_moved_is_finished(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "moved"
    folder = opened(path)
    span = Span.of(replace(TWO_DAYS, days=1))
    run_days(city(), span, folder)
    before = hashes(path)
    said = json.loads((path / "run.json").read_text())
    hidden = path / ".day-2026-03-10"
    for name in ("readings", "truth"):
        (hidden / name).mkdir(parents=True)
        for file in sorted((path / name).iterdir())[5:]:
            file.rename(hidden / name / file.name)
    (hidden / "day.json").write_text(json.dumps(said["days"][0]))
    (path / "run.json").write_text(json.dumps({**said, "days": []}))
    assert [day["date"] for day in opened(path).days] == ["2026-03-10"]
    assert hashes(path) == before


def test_ctrl_c_leaves_whole_days(tmp_path: Path) -> None:
    def interrupted(day: Day, at_ms: int) -> None:
        if day.date == date(2026, 3, 11):
            raise KeyboardInterrupt

    folder = opened(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run_days(city(), Span.of(TWO_DAYS, "06:00"), folder, interrupted)
    assert [day["date"] for day in folder.days] == ["2026-03-10"]
    assert not list((tmp_path / "run").glob(".day*"))


def test_another_run_in_the_folder_is_refused_or_removed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    span = Span.of(replace(TWO_DAYS, days=1), "05:00")
    run_days(city(), span, opened(path))
    with pytest.raises(ConfigError, match="a run with another seed seen"):
        opened(path, {**ABOUT, "seed": 2})
    assert opened(path, {**ABOUT, "seed": 2}, anew=True).days == []
    assert not (path / "readings").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="files that are no run seen"):
        opened(tmp_path / "other")


def test_an_hour_shared_by_two_days_keeps_both(tmp_path: Path) -> None:
    folder = opened(tmp_path / "run")
    for number, name in enumerate(("2026-03-10", "2026-03-11")):
        hidden = folder.begin(name)
        (hidden / "readings").mkdir()
        pq.write_table(pa.table({"count": [number]}), hidden / "readings" / "20260310T22.parquet")
        folder.keep(hidden, {"date": name, "from_ms": number, "until_ms": number + 1, "rows": {"readings": 1}})
    assert pq.read_table(tmp_path / "run" / "readings" / "20260310T22.parquet")["count"].to_pylist() == [0, 1]


def test_gridlock_is_said_plainly_with_where_and_the_run_goes_on() -> None:
    # Nobody can get into a corner of the city: those who want to stand before it, and others behind them.
    corner = np.flatnonzero(GRID.segments.to_node == 0)
    shut = tuple(Closure(Place(segment=f"s{row}"), "05:00", "09:00") for row in corner)
    simulated = SimulatedCity(GRID, replace(FEED, trips=20_000), LISBON, scenario=replace(TWO_DAYS, closures=shut))
    run = simulated.run_of(next(Span.of(TWO_DAYS).each(LISBON))[0])
    while not run.locked and run.engine.now_s < 5 * 3600:
        run.step()
    assert run.locked
    names = run.locked[0].segments
    assert set(names) <= set(GRID.segments.id.tolist())
    found = {"at_ms": run.locked[0].at_ms, "count": 9, "vehicles": 500, "segments": list(names)}
    day = {"date": "2026-03-10", "locked": [found], "still_on_the_road": 321}
    roads = dict(zip(GRID.segments.id.tolist(), GRID.segments.road.tolist(), strict=True))
    (line,) = gridlock([day], LISBON, roads)
    assert line.startswith("2026-03-10: gridlock: from ")
    assert f"9 of {len(GRID.segments)} with 500 vehicles, most of them on" in line
    assert "Road" in line
    assert "321 vehicles were still on the road" in line
    (line,) = gridlock([day], LISBON, {f"s{row}": "Road" for row in range(5000)})
    assert line.startswith("2026-03-10: locked roads: from "), "a corner of a large city is no gridlock"
    before = run.now_ms
    run.step()
    assert run.now_ms > before
