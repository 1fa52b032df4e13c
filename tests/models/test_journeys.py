"""Journeys: which passages make a travel time, and which are no traffic."""

from __future__ import annotations

from models.journeys import FORGET_MS, MOST_PLATES, CameraMap, Journeys, forget
from tests.fakes import corridor_network, grid_network

ROAD = corridor_network(5, kind="camera")
CAMERAS = CameraMap(ROAD)


def _memory() -> Journeys:
    return Journeys({}, {})


def test_a_plate_seen_at_the_segment_before_gives_the_travel_time_over_this_one() -> None:
    memory = _memory()
    assert CAMERAS.travel_time_s(memory, 1, 100_000, 7) is None
    assert CAMERAS.travel_time_s(memory, 2, 130_000, 7) == 30.0
    assert CAMERAS.travel_time_s(memory, 3, 165_000, 7) == 35.0


def test_another_plate_or_a_segment_left_out_gives_none() -> None:
    memory = _memory()
    CAMERAS.travel_time_s(memory, 1, 100_000, 7)
    assert CAMERAS.travel_time_s(memory, 2, 130_000, 8) is None
    assert CAMERAS.travel_time_s(memory, 3, 160_000, 7) is None


def test_against_the_driving_direction_there_is_no_journey() -> None:
    memory = _memory()
    CAMERAS.travel_time_s(memory, 2, 100_000, 7)
    assert CAMERAS.travel_time_s(memory, 1, 130_000, 7) is None


def test_a_passage_older_than_the_last_is_ignored() -> None:
    memory = _memory()
    CAMERAS.travel_time_s(memory, 1, 100_000, 7)
    assert CAMERAS.travel_time_s(memory, 2, 90_000, 7) is None
    assert CAMERAS.travel_time_s(memory, 2, 130_000, 7) == 30.0


def test_an_impossible_speed_and_a_stop_on_the_way_are_left_out() -> None:
    memory = _memory()
    assert _drive(memory, 1, 0, 5_000) is None
    for plate in range(2, 12):
        assert _drive(memory, plate, plate * 60_000, 30_000) == 30.0
    assert _drive(memory, 12, 800_000, 600_000) is None


def test_a_jam_is_believed_once_most_vehicles_are_in_it() -> None:
    memory = _memory()
    for plate in range(12):
        _drive(memory, plate, plate * 60_000, 30_000)
    slow = [_drive(memory, plate, plate * 60_000, 200_000) for plate in range(20, 32)]
    assert slow[0] is None
    assert slow[-1] == 200.0


def test_a_plate_is_forgotten() -> None:
    memory = _memory()
    CAMERAS.travel_time_s(memory, 1, 100_000, 7)
    forget(memory, 100_000 + FORGET_MS)
    assert memory.last == {}


def test_the_memory_is_bounded_and_the_oldest_go_first() -> None:
    memory = Journeys({plate: (0, 10_000_000 + plate) for plate in range(MOST_PLATES + 5)}, {})
    forget(memory, 10_000_000)
    assert len(memory.last) == MOST_PLATES
    assert min(memory.last) == 5


def test_a_camera_in_mid_segment_is_scaled_to_the_whole_segment() -> None:
    grid = grid_network()  # detectors lie in the middle of each block
    cameras, memory = CameraMap(grid), _memory()
    cameras.travel_time_s(memory, 0, 100_000, 7)
    assert cameras.travel_time_s(memory, 1, 140_000, 7) == 40.0


def _drive(memory: Journeys, plate: int, at_ms: int, takes_ms: int) -> float | None:
    CAMERAS.travel_time_s(memory, 1, at_ms, plate)
    return CAMERAS.travel_time_s(memory, 2, at_ms + takes_ms, plate)
