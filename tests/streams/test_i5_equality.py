"""Three days of a real motorway through the stages against a direct computation with pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from citybrain.network import Areas, Detectors, Network, Segments
from citybrain.records import Readings, encode
from citybrain.settings import CitySettings, Limits
from citybrain.wire import Output
from streams.aggregate import Aggregate
from streams.offline import Offline
from streams.results import AREAS_FILE, LETTERS_FILE, STATES_FILE, Recorder
from streams.rollup import Rollup
from tests.conftest import shared_data
from tests.fakes import city_settings
from tests.streams.build import time_settings

PANE_MS = 300_000
HOURS = 300 / 3600


def corridor(stations: pd.DataFrame) -> Network:
    """Return one segment a station, three districts along the road, two partitions."""
    n = len(stations)
    third = np.minimum(np.arange(n) * 3 // n, 2).astype(np.int32)
    ids = stations.station_id.astype(str).to_numpy().astype(np.str_)
    lanes = np.maximum(stations.lanes.to_numpy(), 1).astype(np.int32)
    return Network(
        Segments(
            id=ids,
            road=np.full(n, "I-5 N"),
            road_class=np.zeros(n, dtype=np.int32),
            from_node=np.arange(n, dtype=np.int32),
            to_node=np.arange(1, n + 1, dtype=np.int32),
            length_km=stations.length_km.to_numpy(),
            lanes=lanes,
            limit_kmh=np.full(n, np.nan),
            free_flow_kmh=stations.free_speed_kmh.to_numpy(),
            capacity_vph=stations.capacity_vph.to_numpy(),
            partition=(np.arange(n) * 2 // n).astype(np.int32),
            district=third + 1,
            street=third + 4,
            geometry_start=(2 * np.arange(n + 1)).astype(np.int32),
        ),
        Detectors(ids, np.arange(n, dtype=np.int32), np.zeros(n), lanes, np.full(n, "station")),
        Areas(
            np.array(["city", *(f"d{k}" for k in range(3)), *(f"s{k}" for k in range(3))]),
            np.array(["I-5", *("District",) * 3, *("Street",) * 3]),
            np.array([0, 1, 1, 1, 2, 2, 2], dtype=np.int32),
            np.array([-1, 0, 0, 0, 1, 2, 3], dtype=np.int32),
        ),
        np.full((2 * n, 2), np.nan, dtype=np.float32),
    )


@pytest.fixture(scope="module")
def stations() -> pd.DataFrame:
    table = pd.read_csv(shared_data("pems_i5") / "I5N_detector_chain_fd.csv")
    return table.sort_values("milepost", kind="stable").reset_index(drop=True)


@pytest.fixture(scope="module")
def values(stations: pd.DataFrame) -> pd.DataFrame:
    table = pd.read_csv(shared_data("pems_i5") / "I5N_train_detector_states_3days.csv.gz")
    local = pd.to_datetime(table.timestamp.str.removesuffix("Z")).dt.tz_localize("America/Los_Angeles")
    table["time_start"] = local.dt.tz_convert("UTC")
    table["row"] = table.station_id.map(dict(zip(stations.station_id, stations.index, strict=True)))
    return table.sort_values(["time_start", "row"], kind="stable").reset_index(drop=True)


def settings() -> CitySettings:
    base = city_settings()
    return CitySettings(
        **{name: getattr(base, name) for name in ("folder", "data_folder", "name", "timezone")},
        time=time_settings(pane=300),
        limits=Limits(flow_vph_per_lane=20_000),
    )


def recompute(network: Network, values: pd.DataFrame, folder: Path, batch_rows: int) -> Recorder:
    """Run the archive through the stages, cut into batches of so many rows, each split by partition."""
    city = settings()
    recorder = Recorder(network, city.time, folder, 0, 2**62)
    offline = Offline([Aggregate.of(network, city), Rollup.of(network, city)], recorder)
    start_ms = values.time_start.dt.as_unit("ms").astype(np.int64).to_numpy()
    nan, zero = np.full(len(values), np.nan), np.zeros(len(values), dtype=np.uint8)
    columns = [
        values.row.to_numpy().astype(np.int32),
        start_ms,
        start_ms + PANE_MS,
        nan,
        *(values[name].to_numpy() for name in ("flow", "speed", "occupancy")),
        nan,
        *([zero] * 5),
    ]
    part = network.detector_partition[columns[0]]
    starts = [*range(0, len(values), batch_rows), len(values)]  # the last one is empty: it closes what is open
    for at in starts:
        rows = slice(at, at + batch_rows)
        clock_ms = int(columns[2][rows].max(initial=0)) or int(columns[2].max()) + PANE_MS
        for partition in range(network.partitions):
            mine = part[rows] == partition
            batch = Readings(network.version, "states", clock_ms, clock_ms, *(c[rows][mine] for c in columns))
            offline.put(Output("readings", partition, b"states", encode(batch)), clock_ms)
    offline.finish()
    recorder.close()
    return recorder


@pytest.fixture(scope="module")
def results(
    stations: pd.DataFrame, values: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("i5")
    recorder = recompute(corridor(stations), values, folder, batch_rows=115)
    assert not recorder.refused
    return pd.read_parquet(folder / STATES_FILE), pd.read_parquet(folder / AREAS_FILE), folder


@pytest.fixture(scope="module")
def direct(stations: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Return the definitions of the issue, written down once more with pandas."""
    table = values.join(stations[["length_km", "free_speed_kmh"]], on="row")
    table["vkt"] = table.flow * table.length_km * HOURS
    table["vht"] = table.vkt / table.speed
    table["free"] = table.vkt / table.free_speed_kmh
    table["delay"] = np.maximum(0.0, table.vht - table.free)
    table["tti"] = np.maximum(1.0, table.free_speed_kmh / table.speed)
    return table


def relative_difference(seen: pd.Series, wanted: pd.Series) -> float:
    a, b = seen.to_numpy(), wanted.to_numpy()
    assert a.shape == b.shape
    assert not np.isnan(b).any()
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-12), initial=0.0, where=(a != b)))


def test_every_segment_equals_the_direct_computation(
    results: tuple[pd.DataFrame, pd.DataFrame, Path], direct: pd.DataFrame
) -> None:
    states = results[0]
    assert len(states) == len(direct) == 115 * 864
    assert (states.time_start == direct.time_start).all()
    assert (states.segment.astype(str) == direct.station_id.astype(str)).all()
    wanted = {
        "flow_vph": direct.flow,
        "speed_kmh": direct.speed,
        "occupancy": direct.occupancy,
        "vkt_veh_km": direct.vkt,
        "vht_veh_h": direct.vht,
        "vht_free_flow_veh_h": direct.free,
        "delay_veh_h": direct.delay,
        "tti": direct.tti,
        "dtp": 1 - 1 / direct.tti,
        "travel_time_s": direct.length_km / direct.speed * 3600,
    }
    for name, column in wanted.items():
        # A delay near 0 is a difference of two numbers: it is held against the vehicle-hours it comes from.
        error = relative_difference(states[name], column) if name not in ("delay_veh_h", "dtp") else 0.0
        assert error < 1e-9, name
    np.testing.assert_allclose(states.delay_veh_h, wanted["delay_veh_h"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(states.dtp, wanted["dtp"], rtol=1e-6, atol=1e-9)
    assert (states.coverage == 1.0).all()


@pytest.mark.parametrize("level", ["city", "district", "street"])
def test_every_area_equals_the_direct_computation(
    results: tuple[pd.DataFrame, pd.DataFrame, Path], direct: pd.DataFrame, stations: pd.DataFrame, level: str
) -> None:
    areas = results[1][results[1].level == level].sort_values(["time_start", "area"])
    third = np.minimum(direct.row.to_numpy() * 3 // len(stations), 2).astype(str)
    names = {
        "city": np.full(len(direct), "city"),
        "district": np.char.add("d", third),
        "street": np.char.add("s", third),
    }
    sums = direct.assign(area=names[level]).groupby(["time_start", "area"])[["vkt", "vht", "free", "delay"]].sum()
    sums = sums.reset_index()
    assert len(areas) == len(sums) == 864 * (1 if level == "city" else 3)
    assert areas.area.astype(str).tolist() == sums.area.tolist()
    tti = (sums.vht / sums.free).clip(lower=1.0)
    wanted = {
        "vkt_veh_km": sums.vkt,
        "vht_veh_h": sums.vht,
        "vht_free_flow_veh_h": sums.free,
        "delay_veh_h": sums.delay,
        "speed_kmh": sums.vkt / sums.vht,
        "tti": tti,
    }
    for column, values in wanted.items():
        assert relative_difference(areas[column], values) < 1e-6, column
    np.testing.assert_allclose(areas.dtp, 1 - 1 / tti, rtol=1e-6, atol=1e-9)


def test_other_cuts_into_batches_give_the_same_bytes(
    results: tuple[pd.DataFrame, pd.DataFrame, Path], stations: pd.DataFrame, values: pd.DataFrame, tmp_path: Path
) -> None:
    for batch_rows in (1000, 37_003):
        recompute(corridor(stations), values, tmp_path / str(batch_rows), batch_rows)
        for file in (STATES_FILE, AREAS_FILE):
            assert (tmp_path / str(batch_rows) / file).read_bytes() == (results[2] / file).read_bytes()
        assert pd.read_parquet(tmp_path / str(batch_rows) / LETTERS_FILE).empty
