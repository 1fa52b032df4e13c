"""Which detectors are believed, and what is left out: one detector a segment, two lanes, free flow 50 km/h."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.records import DetectorHealth, Readings, Verdict, decode
from citybrain.settings import CitySettings
from streams.aggregate import Aggregate
from streams.snapshot import packed, unpacked
from streams.stage import Results
from tests.fakes import city_settings, grid_network
from tests.streams.build import MIN, T0, Driven, Row, S, readings

ONE = grid_network(2, 2, partitions=1)
FROZEN = {"count_veh": 4.0, "speed_kmh": 31.5, "occupancy": 0.08}


def varied(n: int) -> dict[str, float]:
    """Return a reading of plausible vehicles (6.7 m) that is no other's."""
    count, speed = 4.0 + n % 5, 30.0 + n % 7
    return {"count_veh": count, "speed_kmh": speed, "occupancy": count * 6.7 / (speed / 3.6) / 30 / 2}


class Heard(Driven):
    """A driven stage whose word on its detectors is kept."""

    def __init__(self, network: Network, *, pane_s: float = 60) -> None:
        super().__init__(network, pane=pane_s)
        self.told: list[DetectorHealth] = []
        self.left_out: dict[str, int] = {}
        self.counted = 0

    def results(self, batch: Readings) -> Results:
        results = super().results(batch)
        outputs = [output for output in results.outputs if output.topic == "detector-health"]
        assert all(output.key == b"0" for output in outputs)
        self.told += [decode(DetectorHealth, output.value) for output in outputs]
        for verdict, count in results.left_out:
            self.left_out[verdict] = self.left_out.get(verdict, 0) + count
        self.counted += results.read[1] if results.read else 0
        return results

    def now(self) -> dict[int, Verdict]:
        """Return the newest list: detectors that are not well."""
        if not self.told:
            return {}
        newest = self.told[-1]
        return {int(d): Verdict(v) for d, v in zip(newest.detector, newest.verdict, strict=True)}

    def hear(self, first: int, last: int, ill: dict[str, float] | None, *, detector: int = 0) -> None:
        """Send intervals of 30 s: detector 1 is well, the other one tells ``ill`` (None: it is well, too)."""
        for n in range(first, last):
            at = 30 * n
            rows: list[Row] = [(1, at, at + 30, varied(n)), (detector, at, at + 30, ill or varied(n))]
            self.send(sorted(rows))


def test_a_detector_that_repeats_itself_for_twenty_minutes_is_stuck_and_not_counted() -> None:
    driven = Heard(ONE)
    driven.hear(0, 40, FROZEN)
    assert not driven.left_out
    driven.hear(40, 45, FROZEN)
    assert driven.left_out == {"stuck": 5}
    assert driven.counted == 45 + 40
    assert driven.now()[0] == Verdict.STUCK
    (since,) = {int(told.since_ms[0]) for told in driven.told if 0 in told.detector}
    assert since == T0 + 41 * 30 * S
    driven.hear(45, 46, FROZEN)
    state = driven.send(watermark_s=1800)[0]
    assert state.pane_start_ms == T0 + 22 * MIN
    assert (state.coverage[0], state.level[0]) == (0.0, 0)
    assert np.isnan(state.flow_vph[0])
    assert state.coverage[1] == 1.0


def test_a_stuck_detector_stays_so_though_its_vehicles_have_a_length() -> None:
    driven = Heard(ONE)
    driven.hear(0, 100, FROZEN)
    assert driven.left_out == {"stuck": 60}


def test_a_speed_and_an_occupancy_without_vehicles_repeat_themselves_for_an_hour() -> None:
    driven = Heard(ONE)
    driven.hear(0, 119, {"count_veh": 0.0, "speed_kmh": 70.0, "occupancy": 0.02})
    assert not driven.left_out


def test_a_detector_that_says_something_else_is_believed_again_from_the_next_look_on() -> None:
    driven = Heard(ONE)
    driven.hear(0, 42, FROZEN)
    driven.hear(42, 50, None)
    assert {int(v) for told in driven.told for v in told.verdict[told.detector == 0]} == {Verdict.STUCK}
    assert 0 not in driven.now()
    assert driven.left_out == {"stuck": 4}


@pytest.mark.parametrize(
    "same",
    [
        {"count_veh": 0.0, "occupancy": 0.0},  # an empty road repeats itself rightly
        {"count_veh": 0.0, "speed_kmh": 70.0, "occupancy": 0.0},  # so does a default speed
        {"speed_kmh": 50.0},  # a feed that tells whole km/h
        {"count_veh": 1.0},
    ],
)
def test_what_may_well_repeat_itself_is_believed(same: dict[str, float]) -> None:
    driven = Heard(ONE)
    driven.hear(0, 200, same)
    assert 0 not in driven.now()
    assert not driven.left_out


def test_a_repetition_is_broken_by_a_gap_and_not_by_one_lost_look() -> None:
    lost, gap = Heard(ONE), Heard(ONE)
    for driven, pause in ((lost, 4), (gap, 8)):
        driven.hear(0, 15, FROZEN)
        driven.hear(15 + pause, 46, FROZEN)
    assert lost.now().get(0) == Verdict.STUCK
    assert 0 not in gap.now()


def test_ten_readings_of_a_slow_feed_are_needed_however_long_they_last() -> None:
    driven = Heard(ONE, pane_s=300)
    for n in range(12):
        driven.send([(0, 300 * n, 300 * (n + 1), FROZEN)])
        assert bool(driven.left_out) == (n >= 9)


def test_a_loop_that_is_covered_for_an_hour_without_anybody_passing_is_locked_and_no_jam() -> None:
    driven = Heard(ONE)
    covered = {"count_veh": 0.0, "occupancy": 1.0}
    driven.hear(0, 120, covered)
    assert not driven.left_out
    driven.hear(120, 126, covered)
    assert driven.left_out == {"locked": 6}
    assert driven.now()[0] == Verdict.LOCKED
    assert driven.send(watermark_s=3900)[-1].level[0] == 0


def test_a_queue_that_stands_for_two_hours_is_believed_while_its_occupancy_moves() -> None:
    driven = Heard(ONE)
    for n in range(240):
        driven.send([(0, 30 * n, 30 * n + 30, {"count_veh": 0.0, "occupancy": 0.8 + n % 3 / 100})])
    assert not driven.left_out


def chattering(n: int, times: float) -> dict[str, float]:
    true = varied(n)
    return true | {"count_veh": true["count_veh"] * times}


@pytest.mark.parametrize(("times", "found"), [(1.0, False), (1.3, False), (2.0, True), (4.0, True)])
def test_a_detector_that_counts_more_than_its_occupancy_has_room_for_is_found(times: float, found: bool) -> None:
    driven = Heard(ONE)
    for n in range(30):
        driven.send([(0, 30 * n, 30 * n + 30, chattering(n, times))])
    assert (driven.now().get(0) == Verdict.OVERCOUNTING) == found
    assert bool(driven.left_out.get("overcounting")) == found


def test_an_overcounting_detector_is_believed_again_when_its_vehicles_have_a_length() -> None:
    driven = Heard(ONE)
    for n in range(60):
        driven.send([(0, 30 * n, 30 * n + 30, chattering(n, 3.0 if n < 20 else 1.0))])
    assert 0 not in driven.now()
    assert 20 < driven.left_out["overcounting"] < 45


def test_a_single_loop_is_held_to_drive_at_free_flow() -> None:
    driven = Heard(ONE)
    for n in range(40):
        count = 5.0 + n % 3
        occupancy = count * 6.7 / (50 / 3.6) / 30 / 2
        driven.send(
            [
                (0, 30 * n, 30 * n + 30, {"count_veh": 2 * count, "occupancy": occupancy}),
                (1, 30 * n, 30 * n + 30, {"count_veh": count, "occupancy": occupancy}),
            ]
        )
    assert driven.now() == {0: Verdict.OVERCOUNTING} | dict.fromkeys(range(2, 8), Verdict.SILENT)


def test_a_station_of_several_devices_is_not_measured_by_its_vehicles() -> None:
    network = grid_network(2, 2, partitions=1)
    network.detectors.kind[:] = "stat"
    driven = Heard(network)
    for n in range(40):
        driven.send([(0, 30 * n, 30 * n + 30, chattering(n, 4.0))])
    assert not driven.left_out


def test_a_city_of_motorcycles_may_have_shorter_vehicles() -> None:
    settings: CitySettings = city_settings()
    limits = replace(settings.limits, shortest_vehicle_m=2.0)
    driven = Heard(ONE)
    driven.stage = Aggregate(ONE, settings.time, limits, settings.thresholds)
    for n in range(30):
        driven.send([(0, 30 * n, 30 * n + 30, chattering(n, 2.5))])
    assert not driven.left_out


def test_who_is_not_heard_for_three_minutes_is_silent_until_it_speaks() -> None:
    driven = Heard(ONE)
    driven.hear(0, 9, None)
    assert driven.now() == dict.fromkeys(range(2, 8), Verdict.SILENT) or not driven.now()
    for n in range(9, 24):
        driven.send([(1, 30 * n, 30 * n + 30, varied(n))])
    assert driven.now()[0] == Verdict.SILENT
    newest = driven.told[-1]
    assert newest.since_ms[newest.detector == 0] == T0 + 9 * 30 * S
    driven.hear(24, 30, None)
    assert 0 not in driven.now()
    assert 1 not in driven.now()


def test_journeys_need_not_be_told_in_step() -> None:
    network = grid_network(2, 2, partitions=1)
    network.detectors.kind[3] = "bus"
    driven = Heard(network)
    for n in range(24):
        driven.send([(1, 30 * n, 30 * n + 30, varied(n))])
    assert set(driven.now()) == {0, 2, 4, 5, 6, 7}


def test_the_list_is_told_when_it_changes_and_not_else() -> None:
    driven = Heard(ONE)
    driven.hear(0, 60, FROZEN)
    assert [sorted(set(map(int, told.verdict))) for told in driven.told] == [[4], [1, 4]]
    assert [told.at_ms for told in driven.told] == sorted({told.at_ms for told in driven.told})


def rows_of(minutes: int) -> list[Row]:
    rows: list[Row] = []
    for n in range(2 * minutes):
        covered = {"count_veh": 0.0, "occupancy": 1.0}
        values = FROZEN, varied(n), chattering(n, 3.0), covered, varied(n) if n < 10 else FROZEN
        rows += [(d, 30 * n, 30 * n + 30, value) for d, value in enumerate(values)]
    return rows


def test_the_cut_into_batches_changes_neither_verdicts_nor_states() -> None:
    rows = rows_of(65)
    found = []
    for size in (5, 1, 13, 200):
        driven = Heard(ONE)
        for at in range(0, len(rows), size):
            driven.send(rows[at : at + size])
        driven.send(watermark_s=4200)
        memory = driven.state.health
        found.append((driven.left_out, driven.now(), memory.verdict.tolist(), memory.since_ms.tolist()))
    assert found[0][0].keys() == {"stuck", "overcounting", "locked"}
    assert all(one == found[0] for one in found)


def test_a_restored_worker_goes_on_with_what_it_knew() -> None:
    rows = rows_of(65)
    whole, broken = Heard(ONE), Heard(ONE)
    for at in range(0, len(rows), 5):
        blob = broken.stage.dump(broken.state)
        broken.state = broken.stage.load(0, blob)
        assert broken.stage.dump(broken.state) == blob
        batch = readings(ONE, rows[at : at + 5])
        assert list(whole.results(batch).outputs) == list(broken.results(batch).outputs)
    assert whole.left_out == broken.left_out


def test_a_reading_that_comes_late_is_counted_and_breaks_no_repetition() -> None:
    driven = Heard(ONE)
    driven.hear(0, 4, FROZEN)
    driven.hear(5, 9, FROZEN)
    driven.send([(0, 120, 150, varied(1))])
    assert not driven.refused
    driven.hear(9, 46, FROZEN)
    assert driven.now()[0] == Verdict.STUCK
    assert driven.counted == 2 * 45 + 1 - 6


def test_a_snapshot_of_before_health_was_known_is_read_and_begins_to_judge() -> None:
    driven = Heard(ONE)
    driven.hear(0, 22, FROZEN)
    *before, _, _ = msgspec.msgpack.decode(unpacked(driven.stage.dump(driven.state)))
    assert before[0] == 2, "a worker of before must refuse it"
    blob = packed(msgspec.msgpack.encode([1, *before[1:]]))
    loaded = driven.stage.load(0, blob)
    np.testing.assert_array_equal(loaded.sums, driven.state.sums)
    assert loaded.offset == driven.state.offset
    assert not loaded.health.verdict.any()
    with pytest.raises(ConfigError, match="allowed"):
        driven.stage.load(0, packed(msgspec.msgpack.encode([3, *before[1:]])))
