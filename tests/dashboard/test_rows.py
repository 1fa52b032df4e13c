from __future__ import annotations

import numpy as np
import pytest

from citybrain.messages import Signal
from dashboard.live.geometry import plane
from dashboard.live.layers import Layers
from dashboard.live.places import Places
from dashboard.live.rows import alert_row, coming, ranking, shown_alerts
from infra.database.protocol import Alert
from tests.dashboard.conftest import MIN
from tests.dashboard.records import alert_event
from tests.fakes import city_settings, corridor_network, grid_network, segment_states

NETWORK = corridor_network(8)
PLACES = Places(NETWORK, plane(NETWORK))
N = len(NETWORK.segments)


def layers_with(*speeds: float) -> Layers:
    layers = Layers(NETWORK, city_settings(), None)
    layers.take_states(segment_states(NETWORK, pane_start_ms=5 * MIN, speed_kmh=np.array(speeds)))
    return layers


def test_congested_neighbours_are_one_row_and_the_most_delayed_leads() -> None:
    layers = layers_with(90, 20, 10, 30, 90, 40, 90, 90)
    first, second = ranking(layers, PLACES)
    assert (first.segments, first.segment, first.level) == ((2, 1, 3), 2, 5)
    assert (second.segments, second.level) == ((5,), 3)
    assert first.delay_veh_h_per_h > second.delay_veh_h_per_h


def test_a_rows_speed_and_index_come_from_sums() -> None:
    [row] = ranking(layers_with(90, 20, 10, 90, 90, 90, 90, 90), PLACES)
    assert row.speed_kmh == pytest.approx(2 / (1 / 20 + 1 / 10), abs=0.05)
    assert row.tti == pytest.approx(90 / (2 / (1 / 20 + 1 / 10)), abs=0.01)
    assert row.delay_veh_h_per_h == pytest.approx(600 * 0.5 * (1 / 20 + 1 / 10 - 2 / 90), abs=0.05)
    assert row.since_ms == 5 * MIN


def test_slow_but_not_congested_segments_stand_alone_and_free_ones_not_at_all() -> None:
    rows = ranking(layers_with(90, 60, 60, 90, 90, 90, 90, 90), PLACES)
    assert [(row.segments, row.level, row.since_ms) for row in rows] == [((1,), 2, None), ((2,), 2, None)]


def test_the_ranking_is_cut_at_its_limit() -> None:
    assert len(ranking(layers_with(*[20, 90] * 4), PLACES, limit=3)) == 3


def test_an_alert_has_its_place_and_what_was_done_about_it() -> None:
    alert = Alert(alert_event(NETWORK), "acknowledged", 3, "desk 2", 90_000)
    row = alert_row(alert, PLACES, NETWORK)
    assert row is not None
    assert (row.road, row.direction, row.district, row.segments) == ("Ring Road", "E", "All", (1, 0))
    assert (row.state, row.version, row.acknowledged_by, row.acknowledged_ms) == ("acknowledged", 3, "desk 2", 90_000)
    assert (row.x, row.y) == pytest.approx(tuple(PLACES.laid.middle[1]), abs=0.1)


def test_alerts_of_another_network_are_left_out() -> None:
    assert alert_row(Alert(alert_event(grid_network()), "open", 1), PLACES, NETWORK) is None


def test_resolved_alerts_are_shown_for_an_hour() -> None:
    gone = alert_event(NETWORK, sequence=2, type="alert.resolved", resolved_ms=10 * MIN)
    alerts = [Alert(gone, "resolved", 2), Alert(alert_event(NETWORK, "a2"), "open", 1)]
    assert [row.alert_id for row in shown_alerts(alerts, NETWORK, PLACES, 69 * MIN)] == ["a1", "a2"]
    assert [row.alert_id for row in shown_alerts(alerts, NETWORK, PLACES, 70 * MIN)] == ["a2"]


def expected(segment: int, probability: float, horizon_min: int = 15) -> Signal:
    return Signal(segment=segment, kind="congestion_expected", probability=probability, horizon_min=horizon_min)


def test_expected_congestion_is_one_row_a_stretch_with_its_likeliest_segment() -> None:
    given = [expected(1, 0.7), expected(2, 0.9, 10), expected(5, 0.8), expected(2, 0.6)]
    rows = coming(given, PLACES, N)
    assert [(row.segment, row.segments, row.probability, row.horizon_min) for row in rows] == [
        (2, (2, 1), 0.9, 10),
        (5, (5,), 0.8, 15),
    ]


def test_only_expected_congestion_of_known_segments_is_coming_and_at_most_eight() -> None:
    breakdown = Signal(segment=1, kind="breakdown", probability=1.0)
    assert coming([breakdown, expected(N, 0.9)], PLACES, N) == []
    grid = grid_network(9, 9)
    many = coming([expected(i, 0.7) for i in range(0, 100, 3)], Places(grid, plane(grid)), len(grid.segments))
    assert len(many) == 8
