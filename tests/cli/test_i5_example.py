"""examples/i5/run.sh: files of that shape in, indices that equal a direct computation out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT, shared_data

HOURS = 5 / 60

STATIONS = """station_id,link_id,milepost,x_km,length_km,lanes,free_speed_kmh,capacity_vph,critical_density,k_jam,v_cut
21,L1,1.0,0.0,0.5,1,110.0,,50,100,60
22,L1,1.5,0.8,0.4,4,115.0,7000,50,400,60
23,L2,1.5,0.8,0.3,4,105.0,7000,50,400,60
24,L3,2.5,2.4,0.9,1,100.0,9000,50,100,60
"""


def _run(data: Path, prefix: str, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    script = str(ROOT / "examples" / "i5" / "run.sh")
    return subprocess.run(
        [script, str(data), prefix, str(out)],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _direct(data: Path, prefix: str, zone: str) -> pd.DataFrame:
    """Return the definitions written down once more: sums of all stations, one row a pane."""
    stations = pd.read_csv(data / f"{prefix}_detector_chain_fd.csv").set_index("station_id")[
        ["length_km", "free_speed_kmh"]
    ]
    table = pd.concat(pd.read_csv(file) for file in sorted(data.glob(f"{prefix}_*detector_states*")))
    table = table[(table.is_observed == 1) & table.speed.notna()].join(stations, on="station_id")
    table["vkt_veh_km"] = table.flow * table.length_km * HOURS
    table["vht_veh_h"] = table.vkt_veh_km / table.speed
    table["vht_free_flow_veh_h"] = table.vkt_veh_km / table.free_speed_kmh
    table["delay_veh_h"] = np.maximum(0.0, table.vht_veh_h - table.vht_free_flow_veh_h)
    local = pd.to_datetime(table.timestamp.str.removesuffix("Z")).dt.tz_localize(zone)
    sums = table.groupby(local.dt.tz_convert("UTC").rename("time_start"))[
        ["vkt_veh_km", "vht_veh_h", "vht_free_flow_veh_h", "delay_veh_h"]
    ].sum()
    sums["speed_kmh"] = sums.vkt_veh_km / sums.vht_veh_h
    sums["tti"] = (sums.vht_veh_h / sums.vht_free_flow_veh_h).clip(lower=1.0)
    return sums


def _assert_equal(out: Path, direct: pd.DataFrame) -> None:
    assert pd.read_parquet(out / "dead_letters.parquet").empty
    areas = pd.read_parquet(out / "area_indices.parquet")
    city = areas[areas.level == "city"].set_index("time_start").loc[direct.index]
    for column in direct.columns:
        np.testing.assert_allclose(city[column], direct[column], rtol=1e-6, atol=1e-9, err_msg=column)


def test_the_three_days_of_i5_equal_a_direct_computation(tmp_path: Path) -> None:
    data = shared_data("pems_i5")
    result = _run(data, "I5N", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    direct = _direct(data, "I5N", "America/Los_Angeles")
    assert len(direct) == 864
    _assert_equal(tmp_path / "out", direct)


def test_another_road_with_shared_places_wrong_lanes_and_imputed_rows_does_as_well(tmp_path: Path) -> None:
    (tmp_path / "X-9_detector_chain_fd.csv").write_text(STATIONS)
    rows = [
        (f"2026-01-12T{7 + pane // 12:02d}:{pane % 12 * 5:02d}:00Z", station, 60.0 + pane + station % 7)
        for pane in range(30)
        for station in (21, 22, 23, 24)
    ]
    table = pd.DataFrame(rows, columns=["timestamp", "station_id", "speed"])
    table["flow"] = np.where(table.station_id == 21, 12_000.0, 3_000.0 + 10 * np.arange(len(table)))
    table["occupancy"] = 0.1
    table["is_observed"] = (np.arange(len(table)) % 17 != 5).astype(int)
    table.loc[table.index % 23 == 7, "speed"] = np.nan
    table.to_csv(tmp_path / "X-9_test_detector_states_1day.csv.gz", index=False)
    result = _run(tmp_path, "X-9", tmp_path / "out", TIMEZONE="America/Phoenix")
    assert result.returncode == 0, result.stderr
    assert "station 24 has 4 lanes, not 1" in result.stderr
    direct = _direct(tmp_path, "X-9", "America/Phoenix")
    assert direct.index[0] == pd.Timestamp("2026-01-12T14:00Z")
    assert len(direct) == 30
    _assert_equal(tmp_path / "out", direct)


@pytest.mark.parametrize(
    ("prefix", "error"),
    [("Y", "Y_detector_chain_fd.csv: DATA_DIR must hold"), ("a b", "PREFIX 'a b' seen")],
)
def test_files_that_are_not_there_are_one_sentence(tmp_path: Path, prefix: str, error: str) -> None:
    result = _run(tmp_path, prefix, tmp_path / "out")
    assert result.returncode == 2
    assert error in result.stderr
    assert len(result.stderr.splitlines()) == 1
