"""In the demo's first quarter of an hour congestion is expected where it then comes, through all stages."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from citybrain.cityfile import load_city, load_network
from citybrain.clock import epoch_ms
from citybrain.messages import Signal, Signals, decode_json
from citybrain.metrics import Metrics
from citybrain.records import Passages, SegmentStates, decode
from citybrain.typical import Typical
from citybrain.wire import Message
from ingest.publish import messages
from simulators.city import SimulatedCity
from simulators.incidents import scripted_of
from streams.offline import Offline
from streams.pipeline import Ground, stages
from tests.conftest import ROOT

BEGIN = datetime(2026, 11, 17, 6, 54, tzinfo=ZoneInfo("Europe/Lisbon"))
FIRST_QUARTER, LOOKED_AT = BEGIN.replace(hour=7, minute=15), BEGIN.replace(hour=7, minute=30)
MINUTE_MS, LATE_MIN = 60_000, 5
"""What is expected within a horizon has come true if it comes so many minutes later at most."""
RIGHT = 0.6
"""Share of warnings that must come true: the probability from which they are given."""


def test_congestion_is_expected_in_the_first_minutes_of_the_demo_and_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    city = load_city(ROOT / "cities" / "porto", data_folder=tmp_path)
    network = load_network(city)
    expected: dict[int, tuple[int, Signal]] = {}
    congested: dict[int, list[int]] = {}

    def take(message: Message) -> None:
        if message.topic == "signals":
            said = decode_json(Signals, message.value)
            for signal in said.signals:
                if signal.kind == "congestion_expected":
                    expected.setdefault(signal.segment, (said.pane_start_ms + said.pane_ms, signal))
        elif message.topic == "segment-states":
            states = decode(SegmentStates, message.value)
            for segment in states.segment[states.level >= 3].tolist():
                congested.setdefault(segment, []).append(states.pane_start_ms)

    def came_after_min(segment: int) -> float:
        """Minutes between a warning and the first congested minute that starts after it; NaN where none did in time."""
        said_ms, signal = expected[segment]
        until_ms = said_ms + (signal.horizon_min + LATE_MIN) * MINUTE_MS
        after = [start_ms for start_ms in congested.get(segment, []) if said_ms <= start_ms < until_ms]
        return (min(after) - said_ms) / MINUTE_MS if after else np.nan

    typical = Typical.load(city.folder / city.typical_file)
    ground = Ground(network=network, settings=city, metrics=Metrics(), typical=typical)
    offline = Offline([stage for stage in stages("worker", ground) if stage.name != "archive"], take)
    scripted = scripted_of(network, city.simulated[0])
    simulated = SimulatedCity(network, city.simulated[0], city.timezone, scripted=scripted)
    for batch in simulated.batches(epoch_ms(BEGIN)):
        if batch.received_ms > epoch_ms(LOOKED_AT + timedelta(minutes=15 + LATE_MIN + 2)):
            break
        if not isinstance(batch, Passages):
            for output in messages(network, batch):
                offline.put(output, batch.received_ms)

    figures = {}
    for name, until in (("07:15", FIRST_QUARTER), ("07:30", LOOKED_AT)):
        came = np.array([came_after_min(s) for s, (said_ms, _) in expected.items() if said_ms <= epoch_ms(until)])
        figures[name] = came
        with capsys.disabled():
            right = came[~np.isnan(came)]
            lead = f", median {np.median(right):.0f} min ahead" if len(right) else ""
            print(f"\nwarnings by {name}: {len(right)} of {len(came)} came true{lead}", end="")
    first_quarter = figures["07:15"]
    assert len(first_quarter), "nothing was expected before 07:15"
    assert np.mean(~np.isnan(first_quarter)) >= RIGHT
    assert (first_quarter >= 2).any(), "no warning was two minutes ahead of what it warned of"
    assert np.mean(~np.isnan(figures["07:30"])) >= RIGHT
