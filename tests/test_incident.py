"""A simulated incident in the demo city leads to a warning and an alert at its place, through all stages."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from citybrain.cityfile import load_city, load_network
from citybrain.clock import epoch_ms
from citybrain.messages import AlertEvent, Signals, decode_json
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.records import Passages
from citybrain.typical import Typical
from citybrain.wire import Message
from ingest.publish import messages
from simulators.city import SimulatedCity
from simulators.incidents import Scripted
from streams.offline import Offline
from streams.pipeline import Ground, stages
from tests.conftest import ROOT

DAY = datetime(2026, 11, 17, tzinfo=ZoneInfo("Europe/Lisbon"))
ONSET = DAY + timedelta(hours=7, minutes=4)
ALLOWED_MIN = 12.0
"""Incident logic needs three minutes of a pane's persistence and two for the queue to reach a detector, and room."""


def near(network: Network, segment: int, steps: int = 3) -> set[int]:
    """Return the segment and those that lead into it over so many junctions: where its queue stands."""
    found = {segment}
    for _ in range(steps):
        nodes = network.segments.from_node[list(found)]
        found |= set(np.flatnonzero(np.isin(network.segments.to_node, nodes)).tolist())
    return found


def test_an_incident_leads_to_a_warning_and_an_alert_at_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    city = load_city(ROOT / "cities" / "porto", data_folder=tmp_path)
    network = load_network(city)
    script = city.simulated[0].scripted[0]
    segment = network.segments.id.tolist().index(script.segment)
    feed = replace(city.simulated[0], incidents_per_day=0.0)
    scripted = Scripted(segment, time.fromisoformat(script.at), script.duration.total_seconds(), script.lanes)
    place = near(network, segment)
    signals: list[tuple[int, str]] = []
    alerts: list[AlertEvent] = []

    def take(message: Message) -> None:
        if message.topic == "signals":
            said = decode_json(Signals, message.value)
            closed_ms = said.pane_start_ms + said.pane_ms
            signals.extend((closed_ms, each.kind) for each in said.signals if each.segment in place)
        elif message.topic == "alerts":
            alerts.append(decode_json(AlertEvent, message.value))

    typical = Typical.load(city.folder / city.typical_file)
    ground = Ground(network=network, settings=city, metrics=Metrics(), typical=typical)
    offline = Offline([stage for stage in stages("worker", ground) if stage.name != "archive"], take)
    onset_ms = epoch_ms(ONSET)
    simulated = SimulatedCity(network, feed, city.timezone, scripted=(scripted,))
    for batch in simulated.batches(onset_ms - 12 * 60_000):
        if batch.received_ms > onset_ms + 20 * 60_000:
            break
        if not isinstance(batch, Passages):
            for output in messages(network, batch):
                offline.put(output, batch.received_ms)

    warned = [closed_ms for closed_ms, kind in signals if kind in ("breakdown", "incident") and closed_ms > onset_ms]
    opened = [
        event.detected_ms
        for event in alerts
        if event.type == "alert.opened" and set(event.segments) & place and event.detected_ms > onset_ms
    ]
    assert warned, f"no warning near {script.segment}: {signals[:10]}"
    assert opened, f"no alert near {script.segment}: {[(a.type, a.kind, a.segments[:3]) for a in alerts]}"
    to_warning, to_alert = ((min(found) - onset_ms) / 60_000 for found in (warned, opened))
    with capsys.disabled():
        print(f"\nincident on {script.segment}: warned after {to_warning:.1f} min, alert after {to_alert:.1f} min")
    assert to_alert <= ALLOWED_MIN
    assert not [a for a in alerts if a.type == "alert.opened" and a.detected_ms <= onset_ms], "alerts before anything"
