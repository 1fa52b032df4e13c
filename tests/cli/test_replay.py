"""Recompute and replay of the same tables: the same bytes, however fast and however cut."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from citybrain.errors import ConfigError
from citybrain.wire import Message
from cli.archive import check as archive_check
from cli.recompute import recompute
from cli.replay import replay
from infra.archive import Archive
from infra.kafka.admin import runs
from infra.kafka.client import Brokers
from infra.stores.factory import open_store
from tests.broker import broker, jars_folder

__all__ = ["broker", "jars_folder"]

TOML = """
name = "Gridtown"
timezone = "Europe/Lisbon"
json_edge = false
[time]
pane = "5min"
[[tables]]
name = "loops"
files = "{data}/values.csv"
detector_column = "detector"
time_column = "time"
interval = "5min"
[tables.metrics]
flow_vph = { column = "flow", unit = "veh/h" }
speed_kmh = { column = "speed", unit = "km/h" }
"""
FILES = ("segment_states.parquet", "area_indices.parquet")


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """Return a city folder with three hours of values, one of them impossible."""
    from tests.fakes import grid_network

    folder, network = tmp_path / "city", grid_network()
    folder.mkdir()
    network.save(folder / "network.arrow")
    (folder / "city.toml").write_text(TOML)
    rng = np.random.default_rng(5)
    times = pd.date_range("2026-04-02T00:00", periods=36, freq="5min", tz="UTC")
    table = pd.DataFrame(
        [(d, t.isoformat()) for t in times for d in network.detectors.id], columns=["detector", "time"]
    )
    table["flow"] = rng.integers(0, 1200, len(table))
    table["speed"] = rng.uniform(5, 60, len(table)).round(1)
    table.loc[7, "speed"] = 999.0
    table.to_csv(tmp_path / "values.csv", index=False)
    return folder


def call(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)  # type: ignore[arg-type]


def test_recompute_writes_every_pane_and_tells_what_was_refused(city: Path, tmp_path: Path) -> None:
    result = call(recompute, city, "--data", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "out_of_range 1" in result.output
    areas = pd.read_parquet(tmp_path / "out" / "area_indices.parquet")
    assert len(areas) == 36 * 5
    assert list(areas.columns) == [
        "time_start", "area", "level", "vkt_veh_km", "vht_veh_h", "vht_free_flow_veh_h", "delay_veh_h", "speed_kmh",
        "tti", "dtp", "tpi", "coverage",
    ]  # fmt: skip
    letters = pd.read_parquet(tmp_path / "out" / "dead_letters.parquet")
    assert letters.reason.tolist() == ["out_of_range"]
    assert "999" in letters.detail[0]


def test_recompute_of_a_period_keeps_to_it(city: Path, tmp_path: Path) -> None:
    period = ("--from", "2026-04-02T02:00", "--to", "2026-04-02T03:00")  # Lisbon is an hour ahead of UTC
    call(recompute, city, "--data", tmp_path, "--out", tmp_path / "all")
    call(recompute, city, "--data", tmp_path, "--out", tmp_path / "part", *period)
    whole, part = (pd.read_parquet(tmp_path / name / FILES[0]) for name in ("all", "part"))
    inside = whole[(whole.time_start >= "2026-04-02T01:00Z") & (whole.time_start < "2026-04-02T02:00Z")]
    pd.testing.assert_frame_equal(part, inside.reset_index(drop=True))


def test_a_period_without_data_is_refused_in_words(city: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="but the tables reach from 2026-04-02"):
        call(
            recompute, city, "--data", tmp_path, "--out", tmp_path / "out", "--from", "2027-01-01", "--to", "2027-01-02"
        )
    with pytest.raises(ConfigError, match="no readings in the archive"):
        call(recompute, city, "--out", tmp_path / "out", "--source", "archive")


@pytest.mark.broker
@pytest.mark.xdist_group("broker")
def test_recompute_and_replays_at_two_batch_sizes_and_speeds_give_the_same_bytes(
    city: Path, tmp_path: Path, broker: Brokers
) -> None:
    call(recompute, city, "--data", tmp_path, "--out", tmp_path / "offline")
    cases = (("first", 0, "max"), ("second", 37, "3000"))
    for run, rows, speed in cases:
        options = ("--run", run, "--batch-rows", rows, "--speed", speed, "--brokers", broker)
        result = call(replay, city, "--data", tmp_path, "--out", tmp_path / run, *options)
        assert result.exit_code == 0, result.output
        for file in FILES:
            assert (tmp_path / run / file).read_bytes() == (tmp_path / "offline" / file).read_bytes()
        assert run not in runs(broker)
    with pytest.raises(ConfigError, match="there was such a run"):
        call(replay, city, "--data", tmp_path, "--run", "first", "--brokers", broker)
    from citybrain.cityfile import load_city, load_network

    settings = load_city(city)
    store = open_store(settings, load_network(settings))
    try:
        assert sorted(store.runs()) == ["first", "second"]
        states = store.states(0, 2**50, run="first")
        assert len(states) == 36 * 34
        assert len(store.states(0, 2**50)) == 0
    finally:
        store.close()


@pytest.mark.broker
@pytest.mark.xdist_group("broker")
def test_a_replay_of_a_part_stores_no_pane_outside_of_it(city: Path, tmp_path: Path, broker: Brokers) -> None:
    from citybrain.cityfile import load_city, load_network

    period = ("--from", "2026-04-02T02:00", "--to", "2026-04-02T03:00")
    result = call(replay, city, "--data", tmp_path, "--run", "part", "--brokers", broker, *period)
    assert result.exit_code == 0, result.output
    settings = load_city(city)
    store = open_store(settings, load_network(settings))
    try:
        panes = store.states(0, 2**50, run="part")["time_start_ms"].unique()
    finally:
        store.close()
    assert len(panes) == 12
    assert panes.max() - panes.min() == 55 * 60_000


def test_an_archive_is_recomputed_like_the_feed_it_holds(city: Path, tmp_path: Path) -> None:
    from citybrain.cityfile import load_city, load_network
    from cli.past import past_of

    settings = load_city(city)
    past = past_of(settings, load_network(settings), data=tmp_path)
    archive = Archive(tmp_path / "archive")
    counts: Counter[int] = Counter()
    for output in past.outputs():
        place = output.partition, counts[output.partition], output.record_ms or 0
        archive.write([Message("readings", *place, output.key, output.value)])
        counts[output.partition] += 1
    call(recompute, city, "--data", tmp_path, "--out", tmp_path / "tables")
    period = ("--from", "2026-04-02T01:00", "--to", "2026-04-02T04:00")
    call(recompute, city, "--data", tmp_path, "--out", tmp_path / "archived", "--source", "archive", *period)
    for file in FILES:
        assert (tmp_path / "archived" / file).read_bytes() == (tmp_path / "tables" / file).read_bytes()
    # A message that is lost is told before anything is computed.
    lost = sorted((tmp_path / "archive" / "readings" / "2026-04-02" / "02").glob("0-*.parquet"))[3]
    lost.with_suffix(".json").unlink()
    lost.unlink()
    options = ("--data", tmp_path, "--source", "archive")
    with pytest.raises(ConfigError, match=r"(?s)not whole.*partition 0: 1 message missing, offsets \d+ to \d+"):
        call(recompute, city, *options, "--out", tmp_path / "refused", *period)
    assert not (tmp_path / "refused").exists()
    assert call(archive_check, city, "--data", tmp_path).exit_code == 1
    result = call(recompute, city, *options, "--out", tmp_path / "gap", "--allow-gaps", *period)
    assert result.exit_code == 0
    assert (tmp_path / "gap" / FILES[0]).read_bytes() != (tmp_path / "tables" / FILES[0]).read_bytes()
