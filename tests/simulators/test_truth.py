from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simulators.calendar import on
from simulators.edie import MINUTE_S, Measure, Minute, standing
from simulators.engine import Engine, Trips
from simulators.faults import Fault
from simulators.incidents import Incident
from simulators.reach import Upstream
from simulators.roads import FloatArray, IntArray, Roads
from simulators.truth import TruthFiles
from simulators.vehicles import KINDS, TRUCK
from tests.simulators.links import along, chain, departures, every

DAY = on(date(2026, 11, 17), "Europe/Lisbon")
MINUTE_MS = MINUTE_S * 1000


def minutes(roads: Roads, trips: Trips, count: int, closed: dict[int, float] | None = None) -> list[Minute]:
    engine = Engine(roads, trips)
    for link, share in (closed or {}).items():
        engine.restrict(link, share)
    measure, found = Measure(engine), []
    for _ in range(count):
        for _ in range(MINUTE_S):
            engine.step(along(roads))
        found.append(measure.since(engine))
    return found


def test_a_queue_behind_a_bottleneck_grows_as_its_shock_says() -> None:
    roads = chain([2000.0, 500.0], [0.5, 0.2])
    found = minutes(roads, departures(every(2.5, 3600.0)), 12)
    grown = np.diff([minute.queue_veh[0] for minute in found[4:]])
    queued, free = roads.jam_veh_m[0] - 0.2 * roads.wave_s[0] / 2000.0, 0.4 / 20.0
    shock_ms = (0.4 - 0.2) / (queued - free)
    assert grown.mean() == pytest.approx(queued * shock_ms * 60, rel=0.05)
    assert (np.array([minute.queue_veh[1] for minute in found]) == 0).all(), "beyond the bottleneck nobody waits"


def test_the_tail_of_a_queue_is_where_the_diagram_says() -> None:
    roads = chain([2000.0, 500.0], [0.5, 0.2])
    minute = minutes(roads, departures(every(2.5, 3600.0)), 10)[-1]
    wave_ms = 2000.0 / roads.wave_s[0]
    queued_veh_m = roads.jam_veh_m[0] - 0.2 / wave_ms
    assert minute.queue_m[0] == pytest.approx(minute.queue_veh[0] / queued_veh_m, rel=0.03)


@pytest.mark.parametrize("bottleneck_vps", [0.1, 0.0])
def test_a_queue_of_trucks_reaches_twice_as_far_back_as_one_of_as_many_cars_would(bottleneck_vps: float) -> None:
    roads = chain([2000.0, 500.0], [0.5, 0.5])
    trips = departures(every(8.0, 3600.0))
    trips = replace(trips, kind=np.full(len(trips), TRUCK, np.int8))
    minute = minutes(roads, trips, 20, {1: bottleneck_vps / 0.5})[-1]
    passing_vps = bottleneck_vps / KINDS[TRUCK].cars
    queued_veh_m = roads.jam_veh_m[0] / KINDS[TRUCK].places - passing_vps * roads.wave_s[0] / 2000.0
    assert minute.queue_veh[0] > 20
    assert minute.queue_m[0] == pytest.approx(minute.queue_veh[0] / queued_veh_m, rel=0.03)


def test_whoever_stands_before_a_closed_road_stands_at_jam_density() -> None:
    roads = chain([2000.0, 500.0], [0.5, 0.5])
    minute = minutes(roads, departures(every(4.0, 3600.0)), 8, {1: 0.0})[-1]
    assert minute.queue_m[0] == pytest.approx(minute.queue_veh[0] / roads.jam_veh_m[0], rel=0.03)
    assert minute.left[0] == 0


def test_the_time_of_those_who_left_is_free_flow_and_the_wait_at_the_bottleneck() -> None:
    roads = chain([2000.0, 500.0], [0.5, 0.2])
    found = minutes(roads, departures(every(2.5, 3600.0)), 12)
    assert found[1].late_s[0] / found[1].left[0] < 10, "the first come through"
    late = [minute.late_s[0] / minute.left[0] for minute in found[4:]]
    # Each vehicle waits (1 / 0.2 - 1 / 0.4) s longer than the one before it; 12 leave in a minute.
    np.testing.assert_allclose(np.diff(late), 12 * 2.5, rtol=0.05)


def test_nobody_drives_backwards_when_a_queue_sets_off() -> None:
    roads = chain([1000.0, 500.0], [0.5, 0.5])
    engine = Engine(roads, departures(every(3.0, 600.0)))
    engine.restrict(1, 0.0)
    before: FloatArray = np.zeros(0)
    for second in range(900):
        if second == 400:
            engine.restrict(1, 1.0)
        gone = int(engine.left[0])
        engine.step(along(roads))
        now = standing(engine)
        position = now.position_m[now.link == 0]
        same = before[int(engine.left[0]) - gone :]
        assert (position[: len(same)] >= same - 1e-6).all(), second
        before = position


def minute_with(queue_m: list[float], roads: Roads) -> Minute:
    n = len(roads)
    queue = np.array(queue_m)
    return Minute(
        distance_m=np.where(queue > 0, 60.0, 60.0 * roads.speed_ms),
        time_s=np.full(n, 60.0),
        left=np.ones(n, np.int64),
        late_s=np.zeros(n),
        queue_veh=(queue > 0).astype(np.int64) * 5,
        queue_m=queue,
    )


def reach_of(queue_m: list[float], segment: int, roads: Roads) -> tuple[float, tuple[int, ...]]:
    upstream, minute = Upstream(roads), minute_with(queue_m, roads)
    found = upstream.reach(segment, upstream.jammed(minute), minute)
    assert found.vehicles == 5 * len(found.segments)
    return found.metres, found.segments


@pytest.mark.parametrize(
    ("queue_m", "metres", "segments"),
    [
        ([0, 0, 0, 0], 0, ()),
        ([0, 0, 100, 0], 100, (2,)),
        ([0, 250, 500, 0], 750, (2, 1)),
        ([500, 200, 500, 0], 700, (2, 1)),
        ([0, 300, 0, 0], 300, (1,)),
        ([300, 0, 0, 0], 0, ()),
    ],
    ids=["none", "on it", "spilt back", "not beyond a gap", "before it", "another one"],
)
def test_a_queue_reaches_back_as_far_as_it_hangs_together(
    queue_m: list[float], metres: float, segments: tuple[int, ...]
) -> None:
    assert reach_of(queue_m, 2, chain([500.0] * 4, [0.5] * 4)) == (metres, segments)


def test_of_two_roads_with_a_queue_the_longer_one_counts() -> None:
    roads = chain([500.0] * 3, [0.5] * 3)
    forked = Roads(**{**{f: getattr(roads, f) for f in Roads.__dataclass_fields__}, "to_node": _into_one(roads)})
    metres, segments = reach_of([400, 150, 450], 2, forked)
    assert (metres, sorted(segments)) == (900, [0, 1, 2])


def _into_one(roads: Roads) -> IntArray:
    """Return ends of a chain of three whose first two both lead into the third."""
    ends = roads.to_node.copy()
    ends[0] = roads.to_node[1]
    return ends


def day_of_truth(folder: Path, incidents: tuple[Incident, ...] = (), faults: tuple[Fault, ...] = ()) -> Engine:
    """Write a quarter of an hour of a chain with a bottleneck; its last trips are still on their way."""
    roads = chain([1000.0, 500.0], [0.5, 0.2])
    engine = Engine(roads, departures(every(2.5, 1800.0)))
    files = TruthFiles(folder, np.array([7, 8, 9], np.int32))
    files.day(DAY, incidents, faults)
    measure = Measure(engine)
    for minute in range(1, 16):
        for _ in range(MINUTE_S):
            engine.step(along(roads))
        files.minute(engine, measure.since(engine), DAY.fill_ms + minute * MINUTE_MS)
    files.over(engine, np.array([[1500.0, 500.0, 0.0]]) / 20.0 / 60.0)
    return engine


def test_a_trips_delay_is_its_time_over_free_flow(tmp_path: Path) -> None:
    engine = day_of_truth(tmp_path)
    trips = pq.read_table(tmp_path / "trips-20261117.parquet").to_pandas()
    assert len(trips) == (engine.trips.depart_s <= engine.now_s).sum(), "only who has departed"
    assert trips.arrive_ms.notna().sum() == engine.arrived > 100
    assert set(trips.origin_zone) == {7}
    took_s = (trips.arrive_ms - trips.depart_ms) / 1000
    np.testing.assert_allclose(trips.delay_s[took_s.notna()], (took_s - trips.free_flow_s).dropna(), atol=0.01)
    assert trips.delay_s.iloc[0] < 5 < 60 < trips.delay_s.dropna().iloc[-1]


def test_an_incidents_furthest_queue_stands_beside_it(tmp_path: Path) -> None:
    onset = DAY.fill_ms + 2 * MINUTE_MS
    one = Incident(1, onset, onset + 5 * MINUTE_MS, 1, 0.3, 0.5)
    later = Incident(0, onset + 3_600_000, onset + 7_200_000, 1, 0.3, 0.5)
    day_of_truth(tmp_path, (one, later))
    first, second = pq.read_table(tmp_path / "incidents-20261117.parquet").to_pylist()
    queues = pq.read_table(next(tmp_path.glob("queues-*.parquet"))).to_pandas()
    assert set(queues.incident) == {0}
    assert queues.minute_ms.min() == onset
    assert first["furthest_m"] == queues.reach_m.max() > 300
    assert first["queue_gone_ms"] > one.end_ms, "its queue is followed until it is gone"
    assert second["furthest_m"] == 0
    assert second["furthest_ms"] is None


def test_a_day_without_incidents_and_faults_has_its_columns(tmp_path: Path) -> None:
    day_of_truth(tmp_path)
    incidents = pq.read_table(tmp_path / "incidents-20261117.parquet")
    assert incidents.num_rows == 0
    assert incidents.schema.field("onset_ms").type == pa.int64()
    assert pq.read_table(tmp_path / "faults-20261117.parquet").schema.field("kind").type == pa.string()


def test_segments_tell_time_and_delay_of_those_who_drove(tmp_path: Path) -> None:
    engine = day_of_truth(tmp_path)
    path = next(tmp_path.glob("segments-*.parquet"))
    rows = pq.read_table(path).to_pandas()
    queue = rows[(rows.segment == 0) & (rows.queue_veh > 5)]
    assert (queue.travel_time_s > 55).all()
    free = rows[(rows.segment == 1) & (rows.left_veh > 0)]
    np.testing.assert_allclose(free.travel_time_s, 25.0, atol=1.0)
    total_h = rows.delay_veh_h[rows.segment == 0].sum()
    done_h = engine.delay_s[0] / 3600
    assert total_h > 0.9 * done_h > 0, "those still in the queue are late already, too"
