from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from citybrain.cityfile import load_city, load_network
from citybrain.errors import ConfigError
from cli.calibrate import calibrate
from cli.simulate import simulate
from simulators.city import SimulatedCity
from tests.fakes import grid_network

CITY = """
name = "Gridtown"
timezone = "Europe/Lisbon"

[[simulated]]
name = "simulated"
trips = 20_000
"""


@pytest.fixture
def city(tmp_path: Path) -> Path:
    folder = tmp_path / "city"
    folder.mkdir()
    (folder / "city.toml").write_text(CITY)
    grid_network().save(folder / "network.arrow")
    return folder


def run(city: Path, *more: str) -> Result:
    return CliRunner().invoke(calibrate, [str(city), *more], catch_exceptions=False)


def counts(folder: Path, vph: int = 400) -> Path:
    path = folder / "counts.csv"
    path.write_text(
        "detector,hour,flow_vph\n" + "".join(f"d{at},{hour},{vph}\n" for at in range(34) for hour in (5, 6))
    )
    return path


def test_counts_give_a_report_and_a_file_that_the_feed_can_name(city: Path, tmp_path: Path) -> None:
    result = run(city, "--counts", str(counts(tmp_path)), "--hour", "5", "--rounds", "2")
    lines = result.stdout.splitlines()
    head = lines.index("hour  counts  GEH < 5 before  after")
    assert lines[head + 1].split()[:2] == ["5", "34"]
    before, after = (int(lines[head + 2].split()[at].rstrip("%")) for at in (2, 3))
    assert after > before
    written = json.loads((city / "demand.json").read_text())
    assert written["counts"] == 34
    assert written["geh_below_5_after"] == pytest.approx(after / 100, abs=0.006)
    toml = CITY + 'calibration = "demand.json"\n'
    (city / "city.toml").write_text(toml)
    settings = load_city(city)
    named = SimulatedCity(load_network(settings), settings.simulated[0], settings.timezone)
    assert sum(named.demand.purpose_level) > 4.2, "more was counted than the model had"
    assert named.demand.hours[5] == pytest.approx(written["hours"][5])


def test_without_counts_it_says_how_slow_the_day_is(city: Path) -> None:
    said = run(city, "--trips", "500").stdout
    assert "500 trips: travel time index of the network 1.0" in said
    assert "0 segments locked" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--counts", "{counts}", "--tti", "2"), "one of them allowed"),
        (("--counts", "{counts}", "--hour", "9"), "no count of these hours"),
        (("--day", "Tuesday"), "'Tuesday' seen"),
        (("--tti", "9"), r"1\.05 to 3 allowed"),
    ],
)
def test_what_makes_no_sense_is_refused(city: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    path = str(counts(tmp_path))
    with pytest.raises(ConfigError, match=said):
        run(city, *(text.format(counts=path) for text in arguments))


def test_simulate_calibrate_is_the_same_command(city: Path, tmp_path: Path) -> None:
    words = [str(city), "--counts", str(tmp_path / "none.csv")]
    with pytest.raises(ConfigError, match=r"none\.csv"):
        CliRunner().invoke(simulate, ["calibrate", *words], catch_exceptions=False)
    assert "--rounds" in CliRunner().invoke(simulate, ["calibrate", "--help"]).stdout
    assert "--rounds" not in CliRunner().invoke(simulate, ["--help"]).stdout
