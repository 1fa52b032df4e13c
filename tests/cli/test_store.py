"""``citybrain store``: what it says, and with which exit code it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from citybrain.errors import ConfigError
from cli.store import store
from infra.stores.factory import open_store
from infra.stores.protocol import Batch
from tests.fakes import area_indices, grid_network, segment_states
from tests.infra.influx import ORG, TOKEN, InfluxProcess

MIN = 60_000
START = 1_790_035_200_000  # 2026-09-22 00:00 UTC
NETWORK = grid_network()
PERIOD = ("--since", "2026-09-22T00:00+00:00", "--until", "2026-09-22T01:00+00:00")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    NETWORK.save(tmp_path / "network.arrow")
    (tmp_path / "city.toml").write_text('name = "Gridtown"\ntimezone = "UTC"\nretention = "size"\n')
    return tmp_path


def on_influx(folder: Path, influx: InfluxProcess) -> None:
    (folder / "token").write_text(TOKEN)
    with (folder / "city.toml").open("a") as file:
        file.write(f'[store]\nkind = "influxdb"\nurl = "{influx.url}"\norg = "{ORG}"\n')
        file.write(f'bucket = "{folder.name}"\ntoken_file = "token"\n')


def run(*arguments: str) -> Result:
    return CliRunner().invoke(store, list(arguments))


def fill(folder: Path, *, kind: str, speed_kmh: float = 30.0) -> None:
    from citybrain.cityfile import load_city

    opened = open_store(load_city(folder), NETWORK, kind=kind)
    for at in range(10):
        state = segment_states(NETWORK, pane_start_ms=START + at * MIN, version=5, speed_kmh=speed_kmh)
        opened.write(Batch(states=[state], areas=[area_indices(NETWORK, pane_start_ms=START + at * MIN)]))
    opened.close()


def test_a_city_with_a_file_needs_no_making(folder: Path) -> None:
    said = run("init", str(folder))
    assert (said.exit_code, said.output) == (0, 'kind = "duckdb": the store is a file, made when it is first written\n')


@pytest.mark.xdist_group("influx")
def test_init_then_copy_there_and_back(folder: Path, influx: InfluxProcess) -> None:
    on_influx(folder, influx)
    said = run("init", str(folder))
    assert said.exit_code == 0
    assert f"bucket {folder.name}_rollups made, keeps all" in said.output
    assert said.output.endswith("may write and read\n")
    fill(folder, kind="duckdb")
    said = run("copy", str(folder), "--from", "duckdb", "--to", "influxdb", *PERIOD)
    assert said.exit_code == 0, said.output
    assert "10 panes of segments, 10 of areas, 34 five-minute sums, 0 forecasts copied" in said.output
    assert said.output.endswith("all the same in both stores\n")
    (folder / ".citybrain-data" / "store.duckdb").unlink()
    said = run("copy", str(folder), "--from", "influxdb", "--to", "duckdb", *PERIOD)
    assert said.exit_code == 0, said.output


@pytest.mark.xdist_group("influx")
def test_a_difference_is_exit_code_1(folder: Path, influx: InfluxProcess) -> None:
    on_influx(folder, influx)
    run("init", str(folder))
    fill(folder, kind="duckdb")
    fill(folder, kind="influxdb", speed_kmh=31.0)
    said = run("copy", str(folder), "--from", "duckdb", "--to", "influxdb", *PERIOD)
    assert said.exit_code == 1
    assert f"differs: pane {START} of partition 0: speed_kmh differs" in said.output
    assert "10 differences" in said.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--from", "duckdb", "--to", "duckdb", *PERIOD), "the same store seen"),
        (("--from", "duckdb", "--to", "influxdb", "--since", "2026-09-22", "--until", "2026-09-22"), "a time after"),
        (("--from", "duckdb", "--to", "influxdb", *PERIOD), "token_file"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(folder: Path, arguments: tuple[str, ...], sentence: str) -> None:
    said = run("copy", str(folder), *arguments)
    assert isinstance(said.exception, ConfigError)
    assert sentence in str(said.exception)
