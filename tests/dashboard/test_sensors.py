from __future__ import annotations

import numpy as np
import pytest

from citybrain.records import DetectorHealth, Quality, Verdict
from dashboard.live.sensors import Sensors
from tests.dashboard.conftest import MIN
from tests.dashboard.records import readings
from tests.fakes import grid_network

NETWORK = grid_network(3, 1)
ALL = list(range(len(NETWORK.detectors)))
T0 = 100 * MIN
HALF = 30_000


def fed(minutes: float, *, but: tuple[int, ...] = ()) -> Sensors:
    """Return what is known after all detectors, except some, reported every 30 s, with changing values."""
    sensors = Sensors(NETWORK)
    for k in range(int(minutes * 2) + 1):
        present = [d for d in ALL if d not in but]
        sensors.take(readings(NETWORK, present, T0 + k * HALF, flow_vph=600 + k))
    return sensors


def test_all_report() -> None:
    health = fed(5).health()
    assert (health.total, health.silent, health.doubtful, health.reporting) == (len(ALL), 0, 0, 1.0)


def test_a_detector_is_silent_after_three_minutes_of_the_feeds_time() -> None:
    assert not fed(3, but=(1,)).silent().any()
    sensors = fed(3.5, but=(1,))
    assert [sensors.state(d) for d in (0, 1)] == ["ok", "silent"]
    assert sensors.health().reporting == pytest.approx(1 - 1 / len(ALL))


def test_with_its_feed_gone_quiet_every_detector_is_silent_by_the_feeds_heartbeats() -> None:
    sensors = fed(5)
    end = T0 + 5 * MIN
    sensors.take(readings(NETWORK, [], end, received_ms=end + 2 * MIN))
    assert sensors.health().silent == 0
    sensors.take(readings(NETWORK, [], end, received_ms=end + 4 * MIN))
    assert sensors.health().reporting == 0.0


def test_a_feed_that_is_four_minutes_behind_has_no_silent_detectors() -> None:
    sensors = Sensors(NETWORK)
    for k in range(20):
        at = T0 + k * HALF
        sensors.take(readings(NETWORK, [0, 1], at, flow_vph=600 + k))
        sensors.take(readings(NETWORK, [2, 3], at - 4 * MIN, received_ms=at, source="slow", flow_vph=600 + k))
    assert sensors.health().silent == 0


def told(partition: int, verdicts: dict[int, Verdict]) -> DetectorHealth:
    detector = np.array(list(verdicts), dtype=np.int32)
    verdict = np.array(list(verdicts.values()), dtype=np.uint8)
    return DetectorHealth(
        NETWORK.version, partition, T0, 7, detector, verdict, T0 - MIN * (1 + np.arange(len(verdict)))
    )


def test_a_detector_that_is_not_believed_is_doubtful_with_the_reason_until_it_is_told_well() -> None:
    sensors = fed(5)
    mine = np.flatnonzero(NETWORK.detector_partition == 0).tolist()
    other = int(np.flatnonzero(NETWORK.detector_partition == 1)[0])
    sensors.judged(told(0, {mine[0]: Verdict.STUCK, mine[1]: Verdict.OVERCOUNTING}))
    sensors.judged(told(1, {other: Verdict.LOCKED}))
    assert [sensors.state(d) for d in (*mine[:2], other)] == ["doubtful"] * 3
    assert sensors.doubt(mine[0]) == ("stuck", T0 - MIN)
    assert sensors.doubt(mine[1]) == ("overcounting", T0 - 2 * MIN)
    assert sensors.health().doubtful == 3
    sensors.judged(told(0, {mine[1]: Verdict.OVERCOUNTING}))
    assert [sensors.state(d) for d in (*mine[:2], other)] == ["ok", "doubtful", "doubtful"]
    assert sensors.doubt(mine[0]) == (None, None)


def test_who_is_silent_the_screen_knows_by_its_own_clock() -> None:
    sensors = fed(5)
    sensors.judged(told(0, {0: Verdict.SILENT}))
    assert sensors.state(0) == "ok"
    late = fed(5, but=(0,))
    late.judged(told(0, {0: Verdict.STUCK}))
    assert (late.state(0), late.doubt(0)) == ("silent", (None, None))


@pytest.mark.parametrize("quality", [Quality.SOURCE_ERROR, Quality.IMPLAUSIBLE, Quality.STALE])
def test_a_detector_that_its_source_doubts_is_doubtful(quality: Quality) -> None:
    sensors = fed(2)
    sensors.take(readings(NETWORK, [1], T0 + 3 * MIN, quality=quality))
    assert [sensors.state(d) for d in (0, 1)] == ["ok", "doubtful"]
    assert sensors.doubt(1) == ("source", None)


def test_an_older_reading_and_an_unknown_detector_change_nothing() -> None:
    sensors = fed(5)
    before = sensors.last_seen_ms.copy()
    sensors.take(readings(NETWORK, [0, len(ALL), -1], T0 + MIN, quality=Quality.SOURCE_ERROR))
    assert (sensors.last_seen_ms == before).all()
    assert sensors.health().doubtful == 0


def test_a_batch_may_hold_several_readings_of_one_detector() -> None:
    sensors = Sensors(NETWORK)
    batch = readings(NETWORK, [0] * 12, T0)
    for k in range(12):
        batch.observed_to_ms[k] = T0 + HALF * (11 - k)
    sensors.take(batch)
    assert sensors.last_seen_ms[0] == T0 + 11 * HALF


def test_no_share_is_told_before_a_feed_was_heard_for_two_intervals() -> None:
    assert Sensors(NETWORK).health().reporting is None
    assert fed(0.5).health().reporting is None
    assert fed(1).health().reporting == 1.0
