from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dashboard.live.frames import Layer
from dashboard.live.layers import Layers
from tests.dashboard.conftest import MIN, TUESDAY_8H
from tests.dashboard.records import open_pane
from tests.fakes import city_settings, forecasts, grid_network, segment_states, typical_week

NETWORK = grid_network()
OWN = NETWORK.segments_of(0)


@pytest.fixture
def layers() -> Layers:
    return Layers(NETWORK, city_settings(), typical_week(NETWORK, share=0.8))


def speeds(layers: Layers) -> list[float]:
    return [float(speed) for speed in layers.speed_and_level()[0][OWN]]


def test_the_newest_closed_pane_is_shown_and_an_older_one_changes_nothing(layers: Layers) -> None:
    assert layers.take_states(segment_states(NETWORK, pane_start_ms=2 * MIN, speed_kmh=30.0))
    assert not layers.take_states(segment_states(NETWORK, pane_start_ms=MIN, version=9, speed_kmh=10.0))
    assert set(speeds(layers)) == {30.0}


def test_a_revision_of_the_newest_pane_takes_its_place(layers: Layers) -> None:
    layers.take_states(segment_states(NETWORK, pane_start_ms=MIN, version=5, speed_kmh=30.0))
    assert layers.take_states(segment_states(NETWORK, pane_start_ms=MIN, version=6, speed_kmh=20.0))
    assert not layers.take_states(segment_states(NETWORK, pane_start_ms=MIN, version=4, speed_kmh=10.0))
    assert set(speeds(layers)) == {20.0}


def test_an_open_pane_lies_over_the_closed_one_where_it_knows_something(layers: Layers) -> None:
    layers.take_states(segment_states(NETWORK, pane_start_ms=0, speed_kmh=30.0))
    known = np.where(np.arange(len(OWN)) < 3, 10.0, np.nan)
    layers.take_states(replace(segment_states(NETWORK, pane_start_ms=MIN, speed_kmh=known), status="provisional"))
    assert speeds(layers) == [10.0] * 3 + [30.0] * (len(OWN) - 3)


def test_an_open_pane_gives_way_when_it_closes(layers: Layers) -> None:
    layers.take_states(open_pane(NETWORK, 0, MIN, 10.0))
    layers.take_states(segment_states(NETWORK, pane_start_ms=MIN, speed_kmh=25.0))
    assert not layers.take_states(open_pane(NETWORK, 0, MIN, 10.0))
    assert set(speeds(layers)) == {25.0}


def test_what_the_store_held_gives_way_even_if_the_feeds_clock_went_back(layers: Layers) -> None:
    layers.restore(segment_states(NETWORK, pane_start_ms=9 * MIN, speed_kmh=30.0))
    layers.take_states(open_pane(NETWORK, 0, 2 * MIN, 12.0))
    assert set(speeds(layers)) == {12.0}


def test_congestion_lasts_through_a_pane_in_which_nobody_measured(layers: Layers) -> None:
    for pane, speed in enumerate([40.0, 20.0, np.nan, 20.0]):
        layers.take_states(segment_states(NETWORK, pane_start_ms=pane * MIN, speed_kmh=speed))
    assert set(layers.congested_since_ms[OWN]) == {MIN}
    layers.take_states(segment_states(NETWORK, pane_start_ms=4 * MIN, speed_kmh=40.0))
    assert set(layers.congested_since_ms) == {0}


def test_every_layer_is_a_byte_a_segment_and_0_where_nothing_is_known(layers: Layers) -> None:
    layers.take_states(segment_states(NETWORK, pane_start_ms=TUESDAY_8H, speed_kmh=20.0))
    layers.take_forecasts(forecasts(NETWORK, pane_start_ms=TUESDAY_8H, mean_kmh=24.0))
    shown = layers.encoded(TUESDAY_8H + MIN)
    at = {layer: set(values[OWN].tolist()) for layer, values in shown.items()}
    assert at == {
        Layer.LEVEL: {4},
        Layer.LEVEL_15: {3},
        Layer.LEVEL_30: {3},
        Layer.LEVEL_60: {3},
        Layer.AGAINST_TYPICAL: {1},  # 20 of 40 km/h
        Layer.SPEED: {20},
    }
    other = NETWORK.segments_of(1)
    assert all(not values[other].any() for values in shown.values())


def test_standstill_is_shown_as_1_and_great_speed_as_255(layers: Layers) -> None:
    speed = np.where(np.arange(len(OWN)) % 2 == 0, 0.2, 400.0)
    layers.take_states(segment_states(NETWORK, pane_start_ms=0, speed_kmh=speed))
    assert layers.encoded(MIN)[Layer.SPEED][OWN[:2]].tolist() == [1, 255]


def test_a_forecast_is_not_shown_when_it_is_old_nor_replaced_by_an_older(layers: Layers) -> None:
    layers.take_forecasts(forecasts(NETWORK, pane_start_ms=9 * MIN, mean_kmh=24.0))
    assert not layers.take_forecasts(forecasts(NETWORK, pane_start_ms=8 * MIN, mean_kmh=50.0))
    assert layers.encoded(25 * MIN)[Layer.LEVEL_30][OWN[0]] == 3
    assert layers.encoded(26 * MIN)[Layer.LEVEL_30][OWN[0]] == 0


def test_kilometres_by_level_sum_to_the_network(layers: Layers) -> None:
    layers.take_states(segment_states(NETWORK, pane_start_ms=0, speed_kmh=20.0))
    km = layers.kilometres(layers.speed_and_level()[1])
    assert km == [8.5, 0, 0, 0, 8.5, 0]


def test_another_typical_week_is_compared_with_at_once(layers: Layers) -> None:
    layers.take_states(segment_states(NETWORK, pane_start_ms=TUESDAY_8H, speed_kmh=40.0))
    assert layers.encoded(TUESDAY_8H)[Layer.AGAINST_TYPICAL][OWN[0]] == 4
    layers.use_typical(typical_week(NETWORK, share=0.5))
    assert layers.encoded(TUESDAY_8H)[Layer.AGAINST_TYPICAL][OWN[0]] == 5
