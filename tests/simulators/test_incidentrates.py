from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from citybrain.errors import ConfigError
from citybrain.network import ROAD_CLASSES, Network
from simulators.calendar import local_hours, on
from simulators.incidentrates import (
    DURATION_MIN,
    LANE_CLOSING_PER_MILLION_KM,
    RUBBERNECKING_CAPACITY,
    Exposure,
    IncidentRules,
    exposure_of,
    incidents_by_rate,
    rate_per_h,
    rubbernecking,
)
from simulators.incidents import Incident, incident_at, remaining_capacity
from simulators.roads import FloatArray, roads_of
from simulators.weather import rain
from tests.fakes import corridor_network, grid_network

NETWORK = grid_network()
ROADS = roads_of(NETWORK)
DAY = on(date(2026, 11, 17), "Europe/Lisbon")
FEW = IncidentRules(per_million_km=200.0, rubbernecking=0.0)
"""Many for their traffic, since the grid is small."""


def test_their_number_is_poisson_about_the_rate_times_the_vehicle_km() -> None:
    exposure = steady()
    place, share = rate_per_h(NETWORK, DAY, exposure, FEW)
    expected = place.sum() * share.sum() / 60
    assert exposure.million_km == pytest.approx(0.5, rel=1e-3)
    counts = np.array([len(draw(seed, exposure)) for seed in range(200)])
    assert counts.mean() == pytest.approx(expected, abs=3 * np.sqrt(expected / 200))
    assert counts.var() == pytest.approx(expected, rel=0.35)


def test_a_motorway_has_its_rate_and_other_roads_more() -> None:
    motorway = replace(NETWORK.segments, road_class=np.where(np.arange(len(ROADS)) % 2 == 0, 0, 3).astype(np.int32))
    network = replace(NETWORK, segments=motorway)
    drawn = [one for seed in range(150) for one in draw(seed, steady(), network=network)]
    on_motorway = sum(network.segments.road_class[one.segment] == ROAD_CLASSES.index("motorway") for one in drawn)
    share = 1 / (1 + 1.5)
    assert on_motorway / len(drawn) == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / len(drawn)))
    assert pytest.approx(1.15, abs=0.01) == LANE_CLOSING_PER_MILLION_KM


def test_they_follow_the_hour_and_are_more_frequent_per_kilometre_at_night() -> None:
    _, hour = local_hours(DAY)
    night = (hour >= 22) | (hour < 5)
    drawn = [one for seed in range(200) for one in draw(seed, steady())]
    at_night = np.mean([night[(one.onset_ms - DAY.fill_ms) // 60_000] for one in drawn])
    expected = 1.5 * night.sum() / (1.5 * night.sum() + (~night).sum())
    assert at_night == pytest.approx(expected, abs=3 * np.sqrt(expected * (1 - expected) / len(drawn)))
    nothing = Exposure(np.full(len(ROADS), 100.0), np.where(hour < 12, 1.0, 0.0))
    assert all(hour[(one.onset_ms - DAY.fill_ms) // 60_000] < 12 for one in draw(1, nothing))


def test_rain_makes_as_many_more_as_it_says() -> None:
    _, hour = local_hours(DAY)
    wet = (hour >= 12) & (hour < 20)
    weather = np.where(wet, rain(10.0).incidents, 1.0)
    exposure = steady()
    dry_share, wet_share = (
        np.mean([wet[(one.onset_ms - DAY.fill_ms) // 60_000] for seed in range(150) for one in draw(seed, exposure, w)])
        for w in (None, weather)
    )
    odds = [share / (1 - share) for share in (dry_share, wet_share)]
    assert odds[1] / odds[0] == pytest.approx(1.71, rel=0.1)


def test_response_and_clearance_together_last_as_published() -> None:
    drawn = [one for seed in range(300) for one in draw(seed, steady())]
    minutes = np.array([(one.end_ms - one.onset_ms) / 60_000 for one in drawn])
    assert {one.lanes_blocked for one in drawn} == {1}, "on two lanes one stays open"
    assert minutes.mean() == pytest.approx(DURATION_MIN[0][0], rel=0.02)
    assert minutes.std() == pytest.approx(DURATION_MIN[0][1], rel=0.06)
    response = np.array([one.response_s for one in drawn]) / 60
    assert response.mean() == pytest.approx(10.0, rel=0.03)
    assert (response < minutes).all()
    assert {one.capacity_share for one in drawn} == {remaining_capacity(2, 1)}


def test_on_wide_roads_some_close_two_lanes_or_three_and_last_longer() -> None:
    wide = replace(NETWORK, segments=replace(NETWORK.segments, lanes=np.full(len(ROADS), 4, np.int32)))
    drawn = [one for seed in range(300) for one in draw(seed, steady(), network=wide)]
    closed = np.array([one.lanes_blocked for one in drawn])
    assert np.bincount(closed)[1:] / len(closed) == pytest.approx([0.797, 0.126, 0.077], abs=0.015)
    minutes = np.array([(one.end_ms - one.onset_ms) / 60_000 for one in drawn])
    for number, (mean, _) in enumerate(DURATION_MIN, start=1):
        assert minutes[closed == number].mean() == pytest.approx(mean, rel=0.05)


def test_drivers_on_the_other_side_look_and_lose_an_eighth_of_their_capacity() -> None:
    rules = replace(FEW, rubbernecking=0.5)
    drawn = [one for seed in range(60) for one in draw(seed, steady(), rules=rules)]
    looked_at = [one for one in drawn if one.kind == "rubbernecking"]
    happened = {(one.segment, one.onset_ms, one.end_ms) for one in drawn if one.kind == "incident"}
    assert len(looked_at) / len(happened) == pytest.approx(0.5, abs=3 * np.sqrt(0.25 / len(happened)))
    segments = NETWORK.segments
    for one in looked_at:
        assert (one.capacity_share, one.lanes_share, one.lanes_blocked) == (RUBBERNECKING_CAPACITY, 1.0, 0)
        back = np.flatnonzero(
            (segments.from_node == segments.to_node[one.segment])
            & (segments.to_node == segments.from_node[one.segment])
        )
        assert (int(back[0]), one.onset_ms, one.end_ms) in happened


def test_on_a_one_way_road_nobody_looks_from_the_other_side() -> None:
    network = corridor_network()
    assert rubbernecking(network, incident_at(roads_of(network), 2, 0, 600.0, 1)) == []


def test_the_traffic_to_expect_is_the_morning_peak_carried_over_the_day() -> None:
    flow = np.full(len(ROADS), 0.1)
    exposure = exposure_of(ROADS, flow, DAY)
    assert exposure.km_per_h == pytest.approx(0.1 * 3600 * 0.5)
    assert exposure.by_minute.max() == pytest.approx(1.0)
    assert exposure.by_minute.min() < 0.1
    sunday = exposure_of(ROADS, flow, on(date(2026, 11, 15), "Europe/Lisbon"))
    assert sunday.million_km < 0.75 * exposure.million_km
    jammed = exposure_of(ROADS, np.full(len(ROADS), 99.0), DAY)
    assert jammed.km_per_h == pytest.approx(ROADS.discharge_vps * 3600 * 0.5)


def test_the_same_seed_draws_the_same() -> None:
    assert draw(7, steady()) == draw(7, steady())


def test_rules_that_cannot_be_are_refused() -> None:
    for wrong, said in (
        ({"rubbernecking": 1.5}, r"rubbernecking 1.5 seen, 0 to 1 allowed"),
        ({"per_million_km": -1.0}, r"-1.0 per million km"),
        ({"response_min": 40.0}, r"response 40.0 min"),
    ):
        with pytest.raises(ConfigError, match=said):
            IncidentRules(**wrong)


def steady() -> Exposure:
    """Return half a million vehicle-km, the same in each minute."""
    return Exposure(np.full(len(ROADS), 0.5e6 / len(ROADS) / (DAY.minutes / 60)), np.ones(DAY.minutes))


def draw(
    seed: int,
    exposure: Exposure,
    weather: FloatArray | None = None,
    *,
    rules: IncidentRules = FEW,
    network: Network = NETWORK,
) -> tuple[Incident, ...]:
    return incidents_by_rate(
        network, roads_of(network), DAY, exposure, rules=rules, rng=np.random.default_rng(seed), weather=weather
    )
