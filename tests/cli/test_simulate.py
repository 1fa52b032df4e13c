from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from citybrain.errors import ConfigError
from cli.simulate import simulate
from tests.fakes import grid_network

CITY = """
name = "Gridtown"
timezone = "Europe/Lisbon"

[[simulated]]
name = "simulated"
trips = 20000
"""


@pytest.fixture
def city(tmp_path: Path) -> Path:
    folder = tmp_path / "city"
    folder.mkdir()
    (folder / "city.toml").write_text(CITY)
    grid_network().save(folder / "network.arrow")
    return folder


def arguments(city: Path, out: Path, *more: str, begin: str = "2026-11-17T05:00") -> list[str]:
    return [str(city), "--from", begin, "--until", "2026-11-17T05:10", "--out", str(out), *more]


def test_it_writes_readings_truth_and_what_was_run(city: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(simulate, arguments(city, out, "--incident", "05:02"), catch_exceptions=False)
    assert result.exit_code == 0
    assert "readings and 0 passages in" in result.output
    readings = pq.read_table(out / "readings" / "20261117T05.parquet")
    about = json.loads((out / "run.json").read_text())
    assert readings.num_rows == about["rows"]["readings"] > 20 * 30
    assert about["network"] == grid_network().version
    assert (out / "truth" / "segments-20261117T05.parquet").exists(), "the hour that has begun is written, too"
    incidents = pq.read_table(out / "truth" / "incidents-20261117.parquet")
    assert incidents.num_rows >= 1


def test_without_truth_there_are_readings_only(city: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    CliRunner().invoke(simulate, arguments(city, out, "--no-truth"), catch_exceptions=False)
    assert sorted(path.name for path in out.iterdir()) == ["readings", "run.json"]


def test_an_end_before_the_beginning_is_refused(city: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--until 2026-11-17T05:10 seen, a time after --from 2026-11-17T06:00"):
        CliRunner().invoke(simulate, arguments(city, tmp_path, begin="2026-11-17T06:00"), catch_exceptions=False)


def test_a_time_that_is_none_is_refused(city: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--incident 'noon' seen, a local time such as 07:05 allowed"):
        CliRunner().invoke(simulate, arguments(city, tmp_path, "--incident", "noon"), catch_exceptions=False)
