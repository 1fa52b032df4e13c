"""A simulation that is driven says what SUMO itself writes of the same run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ingest.sumo.drive import driven
from ingest.sumo.outputs import OutputFile
from ingest.sumo.rows import Row
from tests.ingest.sumo.town import program, simulation


def _driven(config: Path, share: float = 0.3) -> list[Row]:
    return list(driven(config, "town", interval_s=60.0, probe_share=share))


def _file(path: Path) -> list[Row]:
    return list(OutputFile(path, "town", interval_s=60.0, probe_share=1.0).rows())


@pytest.mark.parametrize("step_s", [1.0, 0.3])
def test_loops_count_like_sumos_own_output(tmp_path: Path, step_s: float) -> None:
    config = simulation(tmp_path)
    config.write_text(config.read_text().replace("<time>", f'<time><step-length value="{step_s}"/>'))
    ours = {(row.detector, row.to_s): row for row in _driven(config) if not row.is_probe}
    theirs = {(row.detector, row.to_s): row for row in _file(tmp_path / "e1.xml")}
    assert len(theirs) == 200
    assert ours.keys() == theirs.keys()
    assert sum(row.count_veh for row in theirs.values()) > 500
    for key, row in theirs.items():
        # SUMO writes two digits.
        assert ours[key].count_veh == row.count_veh, key
        assert ours[key].speed_ms == pytest.approx(row.speed_ms, abs=0.0051, nan_ok=True), key
        assert ours[key].occupancy == pytest.approx(row.occupancy, abs=0.000051), key


def test_probes_drive_as_fast_as_all_vehicles_do(tmp_path: Path) -> None:
    config = simulation(tmp_path)
    probes = [row for row in _driven(config, 1.0) if row.is_probe]
    everyone = [row for row in _file(tmp_path / "fcd.xml.gz") if row.to_s <= 600]
    assert {row.detector for row in probes} <= {row.detector for row in everyone}
    means = [sum(row.speed_ms for row in rows) / len(rows) for rows in (probes, everyone)]
    assert means[0] == pytest.approx(means[1], rel=0.05)
    assert len([row for row in _driven(config, 0.0) if row.is_probe]) == 0


def test_a_mesoscopic_simulation_has_probes_and_no_loops(tmp_path: Path) -> None:
    rows = _driven(simulation(tmp_path, more='<mesoscopic><mesosim value="true"/></mesoscopic>'))
    assert rows
    assert all(row.is_probe for row in rows)


def test_areas_and_mesoscopic_loops_are_read_as_sumo_writes_them(tmp_path: Path) -> None:
    config = simulation(tmp_path)
    sumo = [program("sumo"), "-c", str(config), "--no-step-log"]
    subprocess.run(sumo, check=True, capture_output=True)
    areas = _file(tmp_path / "e2.xml")
    loops = {(row.detector, row.to_s): row for row in _file(tmp_path / "e1.xml")}
    assert len(areas) == 10
    assert sum(row.count_veh for row in areas) > 10
    subprocess.run([*sumo, "--mesosim"], check=True, capture_output=True)
    whole = {(row.detector, row.to_s): row for row in _file(tmp_path / "e1.xml")}
    assert all(row.whole for row in whole.values())
    assert whole.keys() == loops.keys()
    # Both lanes of an edge tell the same; together they count what the microscopic loops do, within a sixth.
    total = sum(row.count_veh for row in whole.values()) / 2
    assert total == pytest.approx(sum(row.count_veh for row in loops.values()), rel=1 / 6)


def test_a_feed_that_is_stopped_ends_its_simulation(tmp_path: Path) -> None:
    rows = driven(simulation(tmp_path, until_s=3600), "town", interval_s=60.0, probe_share=0.0)
    assert next(rows).to_s == 60.0
    rows.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(rows)
