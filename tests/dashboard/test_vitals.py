from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from citybrain.typical import AREA_METRICS, Typical
from dashboard.live.sensors import Health
from dashboard.live.vitals import CityHistory, Desk, Vital, city_pane, desk_of, vitals
from tests.dashboard.conftest import MIN, TUESDAY_8H
from tests.fakes import area_indices, grid_network, typical_week

NETWORK = grid_network()
WELL = Health(total=34, silent=1, doubtful=2, reporting=0.97)


def usual(**means: float) -> Typical:
    """Return a typical week whose city has these means, with a tenth of them as standard deviation."""
    week = typical_week(NETWORK)
    for metric, mean in means.items():
        week.area_mean[AREA_METRICS.index(metric)] = mean
        week.area_sd[AREA_METRICS.index(metric)] = mean / 10
    return week


def history(*speeds: float) -> CityHistory:
    kept = CityHistory()
    for k, speed in enumerate(speeds):
        kept.add(city_pane(area_indices(NETWORK, pane_start_ms=TUESDAY_8H + k * MIN, speed_kmh=speed)))
    return kept


def items(kept: CityHistory, typical: Typical | None = None, **changes: Any) -> dict[str, Vital]:
    given = {"health": WELL, "desk": Desk(), "now_ms": TUESDAY_8H, "congested_km": None, "age_s": 2.0, "stale": False}
    found = vitals(kept, typical, "Europe/Lisbon", **{**given, **changes})
    return {item.key: item for item in found.items}


def test_every_sign_is_there_before_the_first_pane_without_a_value() -> None:
    found = items(CityHistory())
    expected = ["tpi", "delay_veh_h_per_h", "speed_kmh", "vehicles", "congested_km", "alerts", "sensors", "data_age"]
    assert list(found) == expected
    assert [key for key, item in found.items() if item.value is None] == list(AREA_METRICS)


def test_delay_is_a_rate_an_hour_and_its_change_is_in_percent_of_typical() -> None:
    delay = items(history(40.0), usual(delay_veh_h_per_h=25.0))["delay_veh_h_per_h"]
    assert (delay.value, delay.typical, delay.change, delay.change_unit) == (30.0, 25.0, 20.0, "%")


def test_only_what_is_worse_than_usual_by_more_than_a_trifle_is_abnormal() -> None:
    week = usual(speed_kmh=46.0, delay_veh_h_per_h=29.5, vehicles=60.0)
    week.area_sd[:] /= 10
    found = items(history(40.0), week)
    assert found["speed_kmh"].abnormal == 1
    assert found["delay_veh_h_per_h"].abnormal == 0
    assert found["vehicles"].abnormal == -1


def test_within_one_and_a_half_standard_deviations_nothing_is_abnormal() -> None:
    assert items(history(40.0), usual(speed_kmh=46.0))["speed_kmh"].abnormal == 0


def test_without_a_typical_week_nothing_is_compared() -> None:
    tpi = items(history(40.0))["tpi"]
    assert (tpi.typical, tpi.change, tpi.abnormal) == (None, None, 0)


def test_congested_kilometres_are_those_of_the_map_with_their_change_over_half_an_hour() -> None:
    kept = history(*[40.0] * 31)
    km = items(kept, congested_km=3.5)["congested_km"]
    assert (km.value, km.change, km.detail["change_30min"], km.detail["length_km"]) == (3.5, None, 1.5, 6.0)
    assert items(history(40.0))["congested_km"].detail["change_30min"] is None


def test_congested_kilometres_are_compared_with_what_is_typical() -> None:
    km = items(history(*[40.0] * 31), usual(congested_km=10.0), congested_km=13.5)["congested_km"]
    assert (km.typical, km.change, km.change_unit, km.abnormal) == (10.0, 3.5, "km", 1)


def test_a_difference_of_less_than_a_tenth_is_never_abnormal() -> None:
    week = usual(speed_kmh=43.0, vehicles=50.0)
    week.area_sd[:] /= 100
    assert items(history(40.0), week)["speed_kmh"].abnormal == 0


def test_a_city_that_is_mostly_not_observed_is_not_judged() -> None:
    areas = area_indices(NETWORK, pane_start_ms=TUESDAY_8H, speed_kmh=20.0)
    kept = CityHistory()
    kept.add(replace(city_pane(areas), coverage=0.3))
    assert items(kept, usual(speed_kmh=46.0))["speed_kmh"].abnormal == 0
    kept.add(replace(city_pane(areas), version=9, coverage=0.9))
    assert items(kept, usual(speed_kmh=46.0))["speed_kmh"].abnormal == 1


def test_an_alert_is_as_old_in_the_strip_as_in_the_list() -> None:
    desk = desk_of([("open", "minor", TUESDAY_8H - 5 * MIN - 59_000)])
    assert items(history(40.0), desk=desk)["alerts"].detail["oldest_min"] == 5


def test_sparks_hold_sixty_panes_and_a_newer_version_replaces() -> None:
    kept = history(*np.linspace(20, 50, 70))
    kept.add(city_pane(area_indices(NETWORK, pane_start_ms=TUESDAY_8H + 69 * MIN, speed_kmh=10.0, version=2)))
    kept.add(city_pane(area_indices(NETWORK, pane_start_ms=TUESDAY_8H + 69 * MIN, speed_kmh=99.0, version=1)))
    spark = items(kept)["speed_kmh"].spark
    assert len(spark) == 60
    assert spark[-1] == 10.0


def test_panes_out_of_order_come_into_order_and_a_clock_that_went_back_forgets() -> None:
    kept = CityHistory()
    for k in (2, 0, 1):
        kept.add(city_pane(area_indices(NETWORK, pane_start_ms=k * MIN, speed_kmh=30.0 + k)))
    assert kept.spark("speed_kmh") == (30.0, 31.0, 32.0)
    kept.rewind(MIN)
    assert kept.spark("speed_kmh") == (30.0,)


def test_an_index_without_flow_is_not_known_and_never_abnormal() -> None:
    found = items(history(math.nan), usual(speed_kmh=46.0))
    assert (found["speed_kmh"].value, found["speed_kmh"].abnormal) == (None, 0)


@pytest.mark.parametrize(("state", "abnormal"), [("open", 1), ("acknowledged", 0), ("resolved", 0)])
def test_a_critical_alert_that_nobody_has_seen_is_abnormal(state: str, abnormal: int) -> None:
    desk = desk_of([(state, "critical", TUESDAY_8H - 26 * MIN), ("open", "minor", TUESDAY_8H - 5 * MIN)])
    alerts = items(history(40.0), desk=desk)["alerts"]
    assert alerts.abnormal == abnormal
    assert alerts.detail["oldest_min"] == (5 if state == "resolved" else 26)


def test_sensors_and_age_turn_abnormal() -> None:
    found = items(history(40.0), health=Health(10, 2, 0, 0.8), stale=True)
    assert (found["sensors"].value, found["sensors"].abnormal) == (80.0, 1)
    assert found["data_age"].abnormal == 1
    assert items(history(40.0))["sensors"].detail == {"total": 34.0, "silent": 1.0, "doubtful": 2.0}
