"""What every model of the stream keeps: one output a pane, shapes, NaN where nothing is known, save and load.

A new stage with a model is one more line in `STAGES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from citybrain.errors import ConfigError
from citybrain.messages import Signals, decode_json
from citybrain.network import Network
from citybrain.records import HORIZONS_MIN, Forecasts, decode, encode
from citybrain.settings import Thresholds
from citybrain.typical import Typical
from citybrain.wire import Message
from streams.forecast import ForecastStage
from streams.stage import Stage
from streams.warn import WarnStage
from tests.fakes import corridor_network, segment_states, typical_week

NETWORK = corridor_network(8, partitions=2)
NOON_MS = 1_789_992_000_000
Make = Callable[[Network, Typical | None], Stage[Any]]
STAGES: dict[str, Make] = {
    "forecast": lambda network, typical: ForecastStage(
        network, Thresholds(), timezone="UTC", pane_ms=60_000, typical=typical
    ),
    "warn": lambda network, typical: WarnStage(network, Thresholds(), timezone="UTC", pane_ms=60_000, typical=typical),
}


@pytest.fixture(params=sorted(STAGES))
def make(request: pytest.FixtureRequest) -> Make:
    return STAGES[request.param]


def _log(minutes: int, *, silent: int = -1) -> list[Message]:
    rng = np.random.default_rng(7)
    log = []
    for minute in range(minutes):
        speed = np.clip(75 - minute + rng.normal(0, 12, 4), 3, 110)
        if silent >= 0:
            speed[silent] = np.nan
        pane = segment_states(NETWORK, pane_start_ms=NOON_MS + minute * 60_000, speed_kmh=speed, flow_vph=2500.0)
        log.append(Message("segment-states", 0, minute, NOON_MS + (minute + 1) * 60_000, b"", encode(pane)))
    return log


def _run(stage: Stage[Any], log: list[Message], state: Any = None) -> list[bytes]:
    state = stage.new(0) if state is None else state
    return [output.value for message in log for output in stage.step(state, message).outputs]


@pytest.mark.parametrize("typical", [None, typical_week(NETWORK)], ids=["no typical week", "typical week"])
def test_each_pane_gives_one_output_and_a_replay_the_same_bytes(make: Make, typical: Typical | None) -> None:
    told = _run(make(NETWORK, typical), _log(50))
    assert len(told) == 50
    assert told == _run(make(NETWORK, typical), _log(50))


def test_a_memory_that_was_saved_and_loaded_goes_on_the_same(make: Make) -> None:
    log, stage = _log(50), make(NETWORK, typical_week(NETWORK))
    whole = _run(stage, log)
    for cut in (0, 1, 5, 23, 49):
        state = stage.new(0)
        first = _run(stage, log[:cut], state)
        again = make(NETWORK, typical_week(NETWORK))
        loaded = again.load(0, stage.dump(state))
        assert again.dump(loaded) == stage.dump(state)
        assert first + _run(again, log[cut:], loaded) == whole


def test_partitions_are_apart(make: Make) -> None:
    stage = make(NETWORK, None)
    first, second = stage.new(0), stage.new(1)
    before = stage.dump(second)
    _run(stage, _log(5), first)
    assert stage.dump(second) == before


def test_a_memory_of_another_network_is_refused(make: Make) -> None:
    stage = make(NETWORK, None)
    with pytest.raises(ConfigError, match="allowed"):
        make(corridor_network(5), None).load(0, stage.dump(stage.new(0)))


def test_a_silent_segment_without_a_typical_day_is_not_known() -> None:
    forecasts = [decode(Forecasts, v) for v in _run(STAGES["forecast"](NETWORK, None), _log(30, silent=2))]
    for forecast in forecasts:
        assert forecast.mean_kmh.shape == forecast.p_congested.shape == (4, len(HORIZONS_MIN))
        assert np.isnan(forecast.mean_kmh[2]).all()
        assert np.isfinite(np.delete(forecast.mean_kmh, 2, axis=0)).all()
    signals = [decode_json(Signals, v) for v in _run(STAGES["warn"](NETWORK, None), _log(80, silent=2))]
    spoken = {signal.segment for one in signals for signal in one.signals}
    assert spoken
    assert 2 not in spoken
