from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from citybrain.network import Network
from simulators.engine import EXIT, Engine
from simulators.roads import Roads, Signals, roads_of
from simulators.signals import LOST_S, SHORTEST_GREEN_S, SignalRules, with_signals
from tests.fakes import grid_network
from tests.simulators.links import departures, every

PORTO = Network.load(Path(__file__).resolve().parents[2] / "cities" / "porto" / "network.arrow")
GRID = grid_network(columns=5, rows=4)


def plans(network: Network, rules: SignalRules | None = None) -> tuple[Roads, Signals]:
    roads = with_signals(roads_of(network), network, rules or SignalRules(enabled=True))
    assert roads.signals is not None
    return roads, roads.signals


def test_without_signals_the_roads_are_what_they_were() -> None:
    roads = roads_of(GRID)
    assert with_signals(roads, GRID, SignalRules()) is roads


def test_the_same_map_has_the_same_plans() -> None:
    first, second = plans(PORTO)[1], plans(PORTO)[1]
    for name in ("lit", "cycle_s", "green_s", "offset_s", "controller"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("network", [GRID, PORTO], ids=["grid", "porto"])
def test_at_every_junction_two_stages_take_turns_and_lose_the_lost_time(network: Network) -> None:
    _, signals = plans(network)
    assert signals.lit.any()
    for number in range(int(signals.controller.max()) + 1):
        links = np.flatnonzero(signals.controller == number)
        cycle = np.unique(signals.cycle_s[links])
        stages = np.unique(np.stack([signals.offset_s[links], signals.green_s[links]], axis=1), axis=0)
        assert len(cycle) == 1
        assert len(stages) == 2, "one stage would never have a red"
        assert (stages == np.round(stages)).all()
        assert stages[:, 1].min() >= SHORTEST_GREEN_S
        assert stages[:, 1].sum() == cycle[0] - 2 * LOST_S
        gap = (stages[::-1, 0] - stages[:, 0]) % cycle[0] - stages[:, 1]
        assert gap.tolist() == [LOST_S, LOST_S], "each begins when the other is over and the junction clear"


def test_at_a_crossing_those_who_come_towards_each_other_share_a_stage_and_those_across_do_not() -> None:
    _, signals = plans(GRID)
    crossing = 6  # second row, second column: two roads cross
    into = np.flatnonzero(GRID.segments.to_node == crossing)
    east = np.char.startswith(GRID.segments.road[into], "East")
    assert len(into) == 4
    assert len(np.unique(signals.offset_s[into[east]])) == 1
    assert len(np.unique(signals.offset_s[into[~east]])) == 1
    assert signals.offset_s[into[east]][0] != signals.offset_s[into[~east]][0]


def test_the_mean_discharge_is_saturation_times_green_over_cycle() -> None:
    roads, signals = plans(PORTO)
    share = signals.green_s[signals.lit] / signals.cycle_s[signals.lit]
    np.testing.assert_allclose(roads.discharge_vps[signals.lit], (roads.capacity_vps[signals.lit]) * share)
    assert (roads.discharge_vps <= roads.capacity_vps).all()


def test_the_demo_city_has_signals_where_main_roads_cross_and_none_on_motorways() -> None:
    _, signals = plans(PORTO)
    assert 100 <= signals.controller.max() + 1 <= 400
    assert not signals.lit[PORTO.segments.road_class == 0].any()
    assert set(np.unique(signals.cycle_s[signals.lit])) <= {60.0, 90.0, 120.0}


def test_a_cycle_that_is_given_is_everyones_and_one_that_no_junction_has_is_refused() -> None:
    _, signals = plans(PORTO, SignalRules(enabled=True, cycle_s=75))
    assert np.unique(signals.cycle_s[signals.lit]).tolist() == [75.0]
    with pytest.raises(ValueError, match="cycle_s: 20 s seen, 30 to 180, or 0, allowed"):
        SignalRules(cycle_s=20)


def test_without_a_map_nobody_knows_who_crosses_whom_and_there_are_no_signals() -> None:
    bare = replace(
        GRID,
        lon_lat=np.zeros((0, 2), np.float32),
        segments=replace(GRID.segments, geometry_start=np.zeros(len(GRID.segments) + 1, np.int32)),
    )
    assert not plans(bare)[1].lit.any()


def test_a_green_wave_along_the_strongest_way_costs_less_than_greens_that_all_begin_together() -> None:
    segments = GRID.segments
    way = [int(np.flatnonzero((segments.from_node == a) & (segments.to_node == a + 1))[0]) for a in range(5, 9)]
    strong = replace(GRID, segments=replace(segments, lanes=np.where(np.isin(np.arange(len(segments)), way), 3, 2)))

    def delay_s(rules: SignalRules) -> float:
        roads, signals = plans(strong, rules)
        assert signals.lit[way].sum() >= 3
        next_link = np.full((1, roads.nodes), EXIT, np.int32)
        next_link[0, 5:9] = way
        engine = Engine(roads, departures(every(6.0, 3600), origin=5))
        for _ in range(4500):
            engine.step(next_link)
        return float(engine.delay_s[way[1:]].sum())  # behind the first signal, so of platoons

    assert delay_s(SignalRules(enabled=True)) < 0.3 * delay_s(SignalRules(enabled=True, waves=False))
