from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from citybrain.errors import ConfigError
from simulators.counts import Counts, geh, read_counts
from tests.fakes import grid_network

LISBON = "Europe/Lisbon"
GRID = grid_network()


def read(folder: Path, text: str, name: str = "counts.csv") -> Counts:
    path = folder / name
    path.write_text(text)
    return read_counts([path], GRID, LISBON)


def rows(counts: Counts) -> list[tuple[int, int, float]]:
    columns = counts.segment.tolist(), counts.hour.tolist(), counts.vph.tolist()
    return [(a, b, round(c, 6)) for a, b, c in zip(*columns, strict=True)]


def test_geh_is_that_of_the_manuals_example() -> None:
    # TAG unit M3.1: the same difference weighs less where more is driven.
    model, counted = np.array([120.0, 1020.0, 0.0]), np.array([100.0, 1000.0, 0.0])
    np.testing.assert_allclose(geh(model, counted), [1.907, 0.629, 0.0], atol=1e-3)


def test_hours_of_several_days_become_their_mean(tmp_path: Path) -> None:
    found = read(tmp_path, "segment,hour,count_veh\ns3,7,900\ns3,7,1100\ns3,8,500\ns4,7,\nelsewhere,7,3\n")
    assert rows(found) == [(3, 7, 1000.0), (3, 8, 500.0)]


def test_flows_by_local_time_are_averaged_over_their_hour(tmp_path: Path) -> None:
    lines = [f"d2,2026-03-10T07:{minute:02},{flow}" for minute, flow in ((0, 600), (15, 800), (30, 1000), (45, 1200))]
    found = read(tmp_path, "\n".join(["detector,time,flow_vph", *lines]) + "\n")
    assert rows(found) == [(2, 7, 900.0)]


def test_times_with_an_offset_are_taken_in_the_citys_hours(tmp_path: Path) -> None:
    lines = [f"d2,2026-07-10T07:{minute:02}:00Z,100" for minute in range(0, 60, 10)]
    found = read(tmp_path, "\n".join(["detector,time,count_veh", *lines]) + "\n")
    assert rows(found) == [(2, 8, 600.0)], "Lisbon is an hour ahead in summer"


def test_an_hour_that_was_counted_for_less_than_most_of_it_is_left_out(tmp_path: Path) -> None:
    lines = [f"d2,2026-03-10T07:{minute:02},10" for minute in (0, 10, 20)]
    lines += [f"d2,2026-03-10T08:{minute:02},10" for minute in range(0, 50, 10)]
    found = read(tmp_path, "\n".join(["detector,time,count_veh", *lines]) + "\n")
    assert rows(found) == [(2, 8, 60.0)]


def test_lanes_are_added_up_and_a_missing_lane_is_like_the_others(tmp_path: Path) -> None:
    lanes = np.ones(len(GRID.detectors), np.int32)
    segment = GRID.detectors.segment.copy()
    segment[1] = 0
    network = replace(GRID, detectors=replace(GRID.detectors, lanes=lanes, segment=segment))
    path = tmp_path / "lanes.csv"
    path.write_text("detector,hour,flow_vph\nd0,7,300\nd1,7,500\nd5,7,400\n")
    found = read_counts([path], network, LISBON)
    assert rows(found) == [(0, 7, 800.0), (5, 7, 800.0)]


def test_readings_of_a_run_are_counts(tmp_path: Path) -> None:
    begin = 1_773_126_000_000  # 2026-03-10T07:00 in Lisbon
    each = np.arange(120)
    columns = {
        "detector": pa.array(np.tile([4, 7], 120), pa.int32()),
        "observed_from_ms": pa.array(np.repeat(begin + 30_000 * each, 2)),
        "observed_to_ms": pa.array(np.repeat(begin + 30_000 * (each + 1), 2)),
        "count_veh": pa.array(np.tile([5.0, np.nan], 120)),
    }
    pq.write_table(pa.table(columns), tmp_path / "20260310T07.parquet")
    assert rows(read_counts([tmp_path], GRID, LISBON)) == [(4, 7, 600.0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("detector,flow_vph\nd1,5\n", "hour, time or observed_from_ms"),
        ("detector,hour,flow_vph\nd1,24,5\n", "hour 24 to 24 seen, 0 to 23 allowed"),
        ("detector,hour,flow_vph\nx,7,5\n", "no detector of the network"),
        ("detector,time,flow_vph\nd1,morning,5\n", "time morning seen"),
    ],
)
def test_a_table_that_is_no_count_is_refused_with_what_was_seen(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder seen"):
        read_counts([tmp_path / "none.csv"], GRID, LISBON)
    with pytest.raises(ConfigError, match="no Parquet file seen"):
        read_counts([tmp_path], GRID, LISBON)
