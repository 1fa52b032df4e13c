from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from citybrain.errors import ConfigError
from citybrain.records import Passages
from simulators.cameras import CameraRules, Cameras, day_key, pseudonym, taken, watch
from simulators.engine import Engine
from simulators.roads import roads_of
from simulators.vehicles import CAR, TRUCK
from tests.fakes import grid_network
from tests.simulators.links import departures, every

DAY = date(2026, 11, 17)
VEHICLES = 2000


def test_a_share_of_the_plates_is_read_as_often_as_the_rate_says() -> None:
    for rate in (0.9, 0.5):
        seen = passages(CameraRules(recognition=rate))
        spread = np.sqrt(VEHICLES * rate * (1 - rate))
        assert len(seen.plate) == pytest.approx(VEHICLES * rate, abs=3 * spread)
        assert len(np.unique(seen.plate)) == len(seen.plate)


def test_a_misread_plate_is_a_pseudonym_that_belongs_to_nobody() -> None:
    known = {pseudonym(f"1-{DAY.toordinal()}-{number}", day_key(1, DAY)) for number in range(VEHICLES)}
    right = passages(CameraRules(recognition=1.0)).plate
    assert set(right.tolist()) == known
    wrong = [
        plate for plate in passages(CameraRules(recognition=1.0, misread=0.05)).plate.tolist() if plate not in known
    ]
    assert len(wrong) == pytest.approx(VEHICLES * 0.05, abs=3 * np.sqrt(VEHICLES * 0.05 * 0.95))
    assert len(set(wrong)) == len(wrong)


def test_the_pseudonym_of_a_plate_changes_with_the_day() -> None:
    assert pseudonym("AA-00-AA", day_key(1, DAY)) != pseudonym("AA-00-AA", day_key(1, date(2026, 11, 18)))


def test_a_camera_tells_cars_from_trucks_where_there_are_both() -> None:
    kind = np.where(np.arange(VEHICLES) % 5 == 0, TRUCK, CAR).astype(np.int8)
    seen = passages(CameraRules(recognition=1.0), kind=kind)
    assert np.bincount(seen.vehicle_class).tolist() == [0, VEHICLES * 4 // 5, VEHICLES // 5]
    assert (passages(CameraRules(recognition=1.0)).vehicle_class == 0).all()


def test_what_others_watch_does_not_come_from_a_camera() -> None:
    cameras, engine = road()
    watch(engine, np.arange(4, dtype=np.int32))
    drive(engine)
    link, vehicle, instant_s = taken(engine)
    assert set(link.tolist()) == {0, 1}
    seen = cameras.passages(
        engine,
        network="n",
        source="s",
        start_ms=0,
        watermark_ms=10**7,
        rng=np.random.default_rng(3),
        seen=(link, vehicle, instant_s),
    )
    assert seen is not None
    assert set(seen.camera.tolist()) == {1}
    assert len(seen.plate) < len(link)


def test_shares_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"recognition 1.2 seen, 0 to 1 allowed"):
        CameraRules(recognition=1.2)
    with pytest.raises(ConfigError, match=r"misread -0.1 seen"):
        CameraRules(misread=-0.1)


def passages(rules: CameraRules, kind: np.ndarray[tuple[int], np.dtype[np.int8]] | None = None) -> Passages:
    cameras, engine = road(rules, kind)
    drive(engine)
    seen = cameras.passages(
        engine, network="n", source="s", start_ms=0, watermark_ms=10**7, rng=np.random.default_rng(3)
    )
    assert seen is not None
    return seen


def road(
    rules: CameraRules | None = None, kind: np.ndarray[tuple[int], np.dtype[np.int8]] | None = None
) -> tuple[Cameras, Engine]:
    """Return a grid with one camera, on the second of two links in a row, and an engine with vehicles for them."""
    network = grid_network(columns=3, rows=2)
    kinds = np.where(np.arange(len(network.detectors)) == 1, "camera", "loop")
    network = replace(network, detectors=replace(network.detectors, kind=kinds))
    roads = roads_of(network)
    trips = replace(departures(every(2.5, 2.5 * VEHICLES)), kind=kind)
    engine = Engine(roads, trips)
    return Cameras(network, roads, engine, seed=1, day=DAY, rules=rules), engine


def drive(engine: Engine) -> None:
    next_link = np.full((1, engine.roads.nodes), -1, np.int32)
    next_link[0, :2] = [0, 1]
    for _ in range(5600):
        engine.step(next_link)
    assert engine.arrived == VEHICLES
