"""Stage `forecast`: once a pane, the same bytes in every replay, the same after a restart."""

from __future__ import annotations

import numpy as np
import pytest

from citybrain.errors import BadRecord, ConfigError
from citybrain.records import Forecasts, decode, encode
from citybrain.settings import Thresholds
from citybrain.wire import Message
from streams.forecast import ForecastStage
from tests.fakes import corridor_network, segment_states, typical_week

NETWORK = corridor_network(6, partitions=2)
NOON_MS = 1_789_992_000_000


def _stage() -> ForecastStage:
    return ForecastStage(NETWORK, Thresholds(), timezone="Europe/Lisbon", pane_ms=60_000, typical=typical_week(NETWORK))


def _log(minutes: int, *, partition: int = 1) -> list[Message]:
    rng = np.random.default_rng(11)
    log = []
    for minute in range(minutes):
        at, speed = NOON_MS + minute * 60_000, 80 + rng.normal(0, 10, 3)
        pane = segment_states(NETWORK, partition=partition, pane_start_ms=at, speed_kmh=speed)
        log.append(Message("segment-states", partition, minute * 2, at + 70_000, b"", encode(pane)))
    return log


def _run(stage: ForecastStage, log: list[Message], *, restart_at: int = -1) -> list[bytes]:
    state, told = stage.new(1), []
    for number, message in enumerate(log):
        if number == restart_at:
            blob, stage = stage.dump(state), _stage()
            state = stage.load(1, blob)
        told += [output.value for output in stage.step(state, message).outputs]
    return told


def test_a_forecast_names_its_pane_its_cause_and_its_model() -> None:
    stage = _stage()
    [output] = stage.step(stage.new(1), _log(1)[0]).outputs
    assert (output.topic, output.partition, output.key) == ("forecasts", 1, f"1/{NOON_MS}".encode())
    assert output.record_ms == NOON_MS + 60_000
    forecasts = decode(Forecasts, output.value)
    assert forecasts.segment.tolist() == [3, 4, 5]
    assert (forecasts.pane_start_ms, forecasts.version) == (NOON_MS, 0)
    assert forecasts.model == f"damped-1+{typical_week(NETWORK).version}"
    assert forecasts.mean_kmh.shape == (3, 12)
    assert forecasts.mean_kmh.dtype == np.float32


def test_a_replay_gives_the_same_bytes() -> None:
    assert _run(_stage(), _log(40)) == _run(_stage(), _log(40))


def test_a_restart_in_mid_stream_goes_on_as_if_nothing_had_been() -> None:
    assert _run(_stage(), _log(40), restart_at=17) == _run(_stage(), _log(40))


def test_revisions_and_repeats_change_nothing() -> None:
    stage, log = _stage(), _log(2)
    state = stage.new(1)
    stage.step(state, log[0])
    before = stage.dump(state)
    revised = segment_states(NETWORK, partition=1, pane_start_ms=NOON_MS, revision=1, speed_kmh=5.0)
    assert stage.step(state, Message("segment-states", 1, 1, 0, b"", encode(revised))).outputs == ()
    assert stage.step(state, log[0]).outputs == ()
    assert stage.dump(state) == before


def test_another_network_and_a_broken_message_are_refused_before_the_state_is_touched() -> None:
    stage = _stage()
    state = stage.new(0)
    before = stage.dump(state)
    other = segment_states(corridor_network(8, partitions=2), speed_kmh=5.0)
    with pytest.raises(BadRecord, match="network"):
        stage.step(state, Message("segment-states", 0, 0, 0, b"", encode(other)))
    with pytest.raises(BadRecord, match="malformed"):
        stage.step(state, Message("segment-states", 0, 1, 0, b"", b"junk"))
    assert stage.dump(state) == before


def test_a_snapshot_of_another_network_is_refused() -> None:
    blob = _stage().dump(_stage().new(0))
    other = ForecastStage(corridor_network(4), Thresholds(), timezone="UTC", pane_ms=60_000)
    with pytest.raises(ConfigError, match="allowed"):
        other.load(0, blob)
