"""Signals, trucks, lost capacity and whole networks against closed forms: within 1 % or one vehicle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.engine import EXIT, Engine, Trips
from simulators.roads import IntArray, Roads, Signals, roads_from
from simulators.vehicles import CAR, KINDS, TRUCK
from tests.simulators.links import along, at_random, chain, departures, every, run

ALWAYS = 1e12


def lit(roads: Roads, plans: dict[int, tuple[float, float, float]]) -> Roads:
    """Return roads with cycle, green and offset, s, of some links."""
    n = len(roads)
    cycle, green, offset = np.full(n, ALWAYS), np.full(n, ALWAYS), np.zeros(n)
    for link, plan in plans.items():
        cycle[link], green[link], offset[link] = plan
    on = np.isin(np.arange(n), list(plans))
    return replace(roads, signals=Signals(on, cycle, green, offset, np.where(on, 0, -1).astype(np.int32)))


@pytest.mark.parametrize(("cycle", "green", "load"), [(90.0, 45.0, 0.5), (60.0, 20.0, 0.8), (120.0, 70.0, 0.9)])
def test_a_fixed_time_signal_costs_the_uniform_delay_of_webster(cycle: float, green: float, load: float) -> None:
    saturation = 5.0
    arrivals = 0.9973 * load * saturation * green / cycle  # not the same instants in each cycle
    roads = lit(chain([2500.0, 300.0], [saturation, saturation], lanes=[10, 10]), {0: (cycle, green, 17.0)})
    hours = 40 * cycle
    engine = Engine(roads, departures(every(1 / arrivals, hours + 600)))
    run(engine, along(roads), 600)
    before_s, before = engine.delay_s[0], engine.left[0]
    run(engine, along(roads), int(hours))
    delay_s = (engine.delay_s[0] - before_s) / (engine.left[0] - before)
    webster_s = cycle * (1 - green / cycle) ** 2 / (2 * (1 - arrivals / saturation))
    assert delay_s == pytest.approx(webster_s, rel=0.01)


@pytest.mark.parametrize(("cycle", "green", "saturation"), [(90.0, 40.0, 0.5), (60.0, 25.0, 0.47), (75.0, 31.0, 1.1)])
def test_a_queue_passes_green_times_saturation_exactly_and_nobody_in_red(
    cycle: float, green: float, saturation: float
) -> None:
    roads = lit(chain([900.0, 300.0], [saturation] * 2, lanes=[2, 2]), {0: (cycle, green, 10.0)})
    engine = Engine(roads, departures(every(1.0 / saturation, 5000)))
    engine.watched = np.array([True, False])
    _, left = run(engine, along(roads), 5000)
    seen = np.concatenate([instant for _, _, instant in engine.seen])
    cycles = 40
    assert left[1000 + int(cycles * cycle), 0] - left[1000, 0] == pytest.approx(
        cycles * green * saturation, rel=0.005, abs=1
    )
    assert ((seen - 10.0) % cycle < green).all()


def test_a_queue_at_a_red_light_spills_back_and_the_green_before_it_lets_out_what_fits() -> None:
    roads = lit(chain([800.0, 70.0, 300.0], [0.5] * 3), {1: (90.0, 20.0, 0.0)})
    engine = Engine(roads, departures(every(2.0, 5000)))
    entered, left = run(engine, along(roads), 5000)
    assert (entered[:, 1] - left[:, 1]).max() == roads.storage_veh[1]
    assert left[4599, 0] - left[999, 0] == pytest.approx(40 * 20 * 0.5, rel=0.01, abs=1)
    assert engine.on_link[0] == pytest.approx(roads.storage_veh[0] - 10 / 90 * roads.wave_s[0], abs=2)


def test_a_queue_on_a_motorway_lets_out_less_than_the_capacity_until_it_is_gone() -> None:
    drop, capacity = 0.07, 0.5
    roads = chain([3000.0, 500.0], [1.0, capacity], lanes=[2, 1])
    roads = replace(roads, capacity_drop=np.full(2, drop))
    depart = np.concatenate([every(1 / 0.8, 900), every(1 / 0.3, 5000, 900), every(1 / 0.495, 7000, 5000)])
    engine = Engine(roads, departures(depart))
    _, left = run(engine, along(roads), 7000)
    assert left[1500, 0] - left[500, 0] == pytest.approx((1 - drop) * capacity * 1000, rel=0.01)
    gone = 900 + roads.free_s[0] + (0.8 - 0.465) * 900 / (0.465 - 0.3)
    assert left[int(gone) + 1000, 0] - left[int(gone) + 100, 0] == pytest.approx(0.3 * 900, abs=2)
    assert left[6900, 0] - left[5900, 0] == pytest.approx(495, abs=1), "without a queue nothing is lost"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_trucks_take_the_time_of_two_cars_at_a_bottleneck_and_their_room_in_a_queue(share: float) -> None:
    roads = chain([1500.0, 700.0, 300.0], [1.0, 1.0, 0.4], lanes=[2, 2, 1])
    n = 3000
    kind = np.where(np.arange(n) * share % 1.0 + share >= 1.0 - 1e-9, TRUCK, CAR).astype(np.int8)
    engine = Engine(roads, replace(departures(every(1.2, 1.2 * n)), kind=kind))
    _, left = run(engine, along(roads), 3500)
    cars = 1 + share * (KINDS[TRUCK].cars - 1)
    assert left[3400, 1] - left[1400, 1] == pytest.approx(0.4 / cars * 2000, rel=0.01)
    queue = 1 + share * (KINDS[TRUCK].places - 1)
    wave_s = roads.wave_s[1]
    moving = (roads.storage_veh[1] - 0.4 / cars * queue * wave_s) / queue
    assert engine.on_link[1] == pytest.approx(moving, rel=0.01, abs=1)
    assert engine.room_veh(np.array([1]))[0] == pytest.approx(roads.storage_veh[1] / queue, rel=0.02)
    entered_m, left_m = engine.metres()
    length_m = KINDS[CAR].length_m + share * (KINDS[TRUCK].length_m - KINDS[CAR].length_m)
    assert (entered_m[0], left_m[0]) == pytest.approx(
        (engine.entered[0] * length_m, engine.left[0] * length_m), rel=0.01
    )


def grid(side: int, rng: np.random.Generator) -> tuple[Roads, IntArray]:
    """Return a town of blocks whose streets go round and round: vehicles turn by their zone at every corner."""
    node = np.arange(side * side).reshape(side, side)
    right, down = np.roll(node, -1, axis=1), np.roll(node, -1, axis=0)
    start = np.concatenate([node.ravel(), node.ravel()])
    end = np.concatenate([right.ravel(), down.ravel()])
    n = len(start)
    roads = roads_from(
        start.astype(np.int32),
        end.astype(np.int32),
        length_m=np.full(n, 200.0),
        speed_ms=np.full(n, 12.5),
        lanes=np.ones(n, np.int32),
        capacity_vps=np.full(n, 0.45),
    )
    town = lit(roads, {link: (60.0, 26.0, 0.0 if link < n // 2 else 30.0) for link in range(n)})
    zones = 8
    next_link = np.where(rng.random((zones, side * side)) < 0.5, node.ravel(), node.ravel() + n // 2).astype(np.int32)
    return town, next_link


def test_production_of_a_town_with_signals_rises_with_accumulation_and_falls_past_its_maximum() -> None:
    side, produced, filled = 6, [], (0.05, 0.15, 0.3, 0.5, 0.7, 0.9)
    for share in filled:
        rng = np.random.default_rng(3)
        roads, _ = grid(side, rng)
        count = int(share * roads.storage_veh.sum())
        origin = np.sort(np.arange(count) % (side * side)).astype(np.int32)
        engine = Engine(roads, Trips(np.zeros(count), origin, rng.integers(0, 8, count).astype(np.int16)))
        for minute in range(50):
            if minute == 20:
                before = engine.left[: engine.links].sum()
            _, next_link = grid(side, rng)  # new turns a minute
            for _ in range(60):
                engine.step(next_link)
        assert engine.on_road == count or share > 0.5, "all are on the road"
        produced.append((engine.left[: engine.links].sum() - before) * 200.0 / 1800.0)
    best = int(np.argmax(produced))
    assert 0 < best < len(filled) - 1
    assert (np.diff(produced[: best + 1]) > 0).all(), "it rises"
    assert (np.diff(produced[best:]) < 0).all(), "and does not gain from more vehicles past its maximum"
    assert produced[-1] < 0.5 * produced[best]


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    truck_share=st.sampled_from([0.0, 0.2, 1.0]),
    drop=st.sampled_from([None, 0.1]),
    closures=st.lists(st.tuples(st.integers(0, 19), st.integers(1, 250), st.sampled_from([0.0, 0.4])), max_size=4),
)
def test_nobody_is_lost_with_signals_trucks_and_closures_and_a_resumed_run_ends_the_same(
    seed: int, truck_share: float, drop: float | None, closures: list[tuple[int, int, float]]
) -> None:
    rng = np.random.default_rng(seed)
    nodes, links, count = 8, 20, 400
    roads = at_random(rng, nodes, links)
    plans = {int(link): (40.0, float(rng.integers(5, 35)), float(rng.integers(0, 40))) for link in range(0, links, 2)}
    roads = replace(lit(roads, plans), capacity_drop=None if drop is None else np.full(links, drop))
    origin = np.sort(rng.integers(0, nodes, count)).astype(np.int32)
    depart = np.concatenate([np.sort(rng.uniform(0, 150, (origin == node).sum())) for node in range(nodes)])
    kind = (rng.random(count) < truck_share).astype(np.int8)
    trips = Trips(depart, origin, rng.integers(0, 3, count).astype(np.int16), kind)
    engine, resumed = Engine(roads, trips), Engine(roads, trips)
    places = np.array([each.places for each in KINDS])[kind]
    for second in range(300):
        if second % 60 == 0:
            ways = [rng.choice(np.flatnonzero(roads.from_node == node), 3) for node in range(nodes)]
            next_link = np.stack(ways, axis=1).astype(np.int32)
            next_link[np.arange(3), rng.integers(0, nodes, 3)] = EXIT
        for link, at, share in closures:
            for one in (engine, resumed) if second > 150 else (engine,):
                if second in (at, at + 40):
                    one.restrict(link, share if second == at else 1.0)
        if second == 150:
            resumed.load({name: values.copy() for name, values in engine.dump().items()})
        engine.step(next_link)
        if second >= 150:
            resumed.step(next_link)
        assert engine.departed == engine.on_road + engine.arrived
        assert int((depart <= engine.now_s).sum()) == engine.departed + int(engine.waiting_at_origin().sum())
        inside = [_inside(engine, link) for link in range(links)]
        assert [len(vehicles) for vehicles in inside] == engine.on_link.tolist()
        for link, vehicles in enumerate(inside):
            assert places[vehicles].sum() <= roads.storage_veh[link] + kind.max()
    everywhere = np.concatenate(inside)
    assert len(np.unique(everywhere)) == engine.on_road, "each vehicle is in one place"
    for name, values in engine.dump().items():
        assert values.tobytes() == resumed.dump()[name].tobytes(), name


def _inside(engine: Engine, link: int) -> IntArray:
    numbers = np.arange(engine.left[link], engine.entered[link])
    return np.asarray(engine._queue[engine._start[link] + numbers % engine._size[link]])
