from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from citybrain.cityfile import load_city, load_network
from citybrain.errors import ConfigError
from citybrain.settings import SimulatedFeed
from cli.network import network as network_command
from simulators.calendar import on
from simulators.calibration import Calibration, Fit, calibrate
from simulators.city import SimulatedCity
from simulators.counts import Counts, read_counts
from simulators.demand import HOME, Factors
from simulators.engine import Engine
from simulators.factorfile import load_factors, save_factors, zone_places_km
from simulators.routes import EVERY_S
from simulators.zones import node_positions_km
from tests.conftest import shared_data
from tests.fakes import grid_network

LISBON = "Europe/Lisbon"
TUESDAY = date(2026, 11, 17)
GRID = grid_network(columns=6, rows=5)
FEED = SimulatedFeed(trips=90_000, incidents_per_day=0.0, faulty_share=0.0)


def city(seed: int = 1, trips: int = 90_000, calibration: str = "") -> SimulatedCity:
    return SimulatedCity(GRID, replace(FEED, seed=seed, trips=trips, calibration=calibration), LISBON)


def counted(truth: SimulatedCity, factors: Factors, hour: int = 7, begins: int = 0) -> Counts:
    """Count everyone on every second segment, as a detector at its end would."""
    day = on(TUESDAY, LISBON)
    trips = truth.demand.times(factors).of_day(day, np.random.default_rng(99))
    engine, routes = Engine(truth.roads, trips), truth.routes()
    start_s = 1800 + (hour - 4) * 3600
    before = np.zeros(len(truth.roads), np.int64)
    while engine.now_s < start_s + 3600:
        engine.step(routes.next_link)
        if round(engine.now_s) % EVERY_S == 0:
            routes.update(engine)
        if round(engine.now_s) == start_s:
            before = engine.left[: len(truth.roads)].copy()
    passed = engine.left[: len(truth.roads)] - before
    segment = np.arange(begins, len(truth.roads), 2, dtype=np.int32)
    return Counts(segment, np.full(len(segment), hour, np.int32), passed[segment].astype(np.float64))


def factors(seed: int = 5) -> Factors:
    """Return a city in which people live and work elsewhere than the roads let one guess, and more of them."""
    rng = np.random.default_rng(seed)
    return Factors(np.exp(rng.normal(0.1, 0.5, (4, len(city().zones)))), np.ones(24))


@pytest.fixture(scope="module")
def recovered() -> tuple[Calibration, Counts]:
    counts = counted(city(trips=120_000), factors())
    return calibrate(city(), TUESDAY, counts, rounds=3), counts


def test_counts_of_another_draw_and_demand_are_met_far_better_after_than_before(
    recovered: tuple[Calibration, Counts],
) -> None:
    found, _ = recovered
    assert found.before.met < 0.7
    assert found.after.met > found.before.met + 0.2
    assert found.after.geh.mean() < 0.6 * found.before.geh.mean()


def test_segments_that_were_not_counted_are_met_better_too(recovered: tuple[Calibration, Counts]) -> None:
    found, _ = recovered
    elsewhere = counted(city(trips=120_000), factors(), begins=1)
    plain, better = (
        Fit(elsewhere, counted(city(), each, begins=1).vph) for each in (Factors.ones(len(city().zones)), found.factors)
    )
    assert better.geh.mean() < 0.8 * plain.geh.mean()


def test_the_best_run_is_kept_and_no_factor_leaves_its_bounds(recovered: tuple[Calibration, Counts]) -> None:
    found, _ = recovered
    assert len(found.rounds) == 4
    assert found.after.met == max(fit.met for fit in found.rounds)
    assert 0.2 <= found.factors.ends.min() < 1 < found.factors.ends.max() <= 5.0
    assert found.factors.hours[[12, 18]].tolist() == [1.0, 1.0], "hours that were not counted stay as they are"


def test_the_same_counts_give_the_same_factors() -> None:
    counts = counted(city(seed=2), Factors.ones(len(city().zones)), hour=5)
    first, again = (calibrate(city(), TUESDAY, counts, rounds=1).factors for _ in range(2))
    assert first.ends.tolist() == again.ends.tolist()


def test_factors_are_the_same_after_a_file_and_a_feed_that_names_it_has_them(tmp_path: Path) -> None:
    plain = city()
    places = zone_places_km(plain.zones, node_positions_km(GRID, plain.roads))
    path = tmp_path / "demand.json"
    save_factors(path, factors(), plain.zones, places, {"network": GRID.version})
    back = load_factors(path, GRID.version, plain.zones, places)
    np.testing.assert_allclose(back.ends, factors().ends, atol=1e-4)
    named = city(calibration=str(path))
    wanted = plain.demand.times(factors())
    np.testing.assert_allclose(named.demand.cumulated[HOME], wanted.cumulated[HOME], atol=1e-4)
    assert named.demand.purpose_level != plain.demand.purpose_level


def test_a_city_of_another_seed_takes_the_factors_of_the_places_it_has(tmp_path: Path) -> None:
    first, other = city(), city(seed=3)
    places = [zone_places_km(each.zones, node_positions_km(GRID, each.roads)) for each in (first, other)]
    ends = np.ones((4, len(first.zones)))
    ends[HOME] = np.exp(places[0][:, 0])
    path = tmp_path / "demand.json"
    save_factors(path, Factors(ends, np.ones(24)), first.zones, places[0], {"network": GRID.version})
    taken = load_factors(path, GRID.version, other.zones, places[1])
    np.testing.assert_allclose(np.log(taken.ends[HOME]), places[1][:, 0], atol=0.3)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "cannot be read as factors"), ('{"format": 2}', "format 2 seen, 1 allowed"), ("[]", "cannot be read")],
)
def test_a_file_that_holds_no_factors_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "demand.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        city(calibration=str(path))


def test_factors_of_another_network_are_refused(tmp_path: Path) -> None:
    plain = city()
    places = zone_places_km(plain.zones, node_positions_km(GRID, plain.roads))
    save_factors(tmp_path / "x.json", factors(), plain.zones, places, {"network": "0123"})
    with pytest.raises(ConfigError, match=f"network 0123 seen, {GRID.version} allowed"):
        load_factors(tmp_path / "x.json", GRID.version, plain.zones, places)


def test_a_motorways_measured_flows_of_a_morning_hour_are_met(tmp_path: Path) -> None:
    data = shared_data("pems_i5")
    stations = data / "I5N_detector_chain_fd.csv"
    words = ["import", "stations", str(stations), str(tmp_path), "--name", "I5", "--timezone", "America/Los_Angeles"]
    assert CliRunner().invoke(network_command, [*words, "--road", "I-5 N", "--partitions", "2"]).exit_code == 0
    settings = load_city(tmp_path)
    network = load_network(settings)
    states = pd.read_csv(data / "I5N_train_detector_states_3days.csv.gz")
    states = states[states.is_observed == 1]
    # Their stamps end in Z but are local.
    states["hour"] = pd.to_datetime(states.timestamp).dt.hour
    flows = states.groupby(["station_id", "hour"]).flow.mean().reset_index()
    flows.columns = ["detector", "hour", "flow_vph"]
    flows.to_csv(tmp_path / "flows.csv", index=False)
    counts = read_counts([tmp_path / "flows.csv"], network, settings.timezone).of_hours([6])
    assert len(counts) == 115
    model = SimulatedCity(network, replace(FEED, trips=1_200_000), settings.timezone)
    found = calibrate(model, date(2026, 4, 8), counts, rounds=3)
    assert found.before.met < 0.1
    assert found.after.met > 0.6
    assert found.after.geh.mean() < 0.2 * found.before.geh.mean()
