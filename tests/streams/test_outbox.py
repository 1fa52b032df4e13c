"""The outbox stage: alert events reach the desk before they are acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import pytest

from citybrain.clock import ManualClock
from citybrain.errors import BadRecord, StoreError
from citybrain.messages import AlertEvent, encode_json
from citybrain.metrics import Metrics
from citybrain.wire import Message
from infra.database.alerts import SqlAlertDesk
from infra.database.payload import Sender
from infra.database.protocol import AlertDesk
from infra.database.tables import open_database
from streams.outbox import OutboxStage
from tests.fakes import alert_event, grid_network

NETWORK = grid_network()


class FlakyDesk:
    """The real desk behind a database that fails a number of times."""

    def __init__(self, folder: Path, failures: int = 0) -> None:
        engine = open_database(f"sqlite:///{folder / 'city.sqlite'}")
        self.real = SqlAlertDesk(engine, NETWORK, [], ManualClock(), Sender("Gridtown"))
        self.failures = failures

    def apply(self, events: Sequence[AlertEvent], *, run: str = "") -> None:
        if self.failures:
            self.failures -= 1
            raise StoreError("the database is locked")
        self.real.apply(events, run=run)


def stage_with(desk: FlakyDesk, slept: list[float], run: str = "") -> OutboxStage:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    return OutboxStage(cast(AlertDesk, desk), NETWORK, Metrics(), run=run, sleep=sleep)


def message(event: AlertEvent, offset: int = 0) -> Message:
    return Message("alerts", 0, offset, 0, event.alert_id.encode(), encode_json(event))


def test_events_reach_the_desk_when_they_are_made_durable(tmp_path: Path) -> None:
    desk = FlakyDesk(tmp_path, failures=3)
    slept: list[float] = []
    stage = stage_with(desk, slept, run="r1")
    for sequence in (1, 2):
        stage.step(None, message(alert_event(NETWORK, sequence=sequence), sequence))
    assert desk.real.alerts(run="r1") == []
    asyncio.run(stage.durable())
    (alert,) = desk.real.alerts(run="r1")
    assert (alert.event.sequence, alert.version) == (2, 2)
    assert slept == [0.5, 1, 2]
    asyncio.run(stage.durable())
    assert desk.real.alerts(run="r1") == [alert]


def test_at_the_end_events_that_could_not_be_written_are_kept(tmp_path: Path) -> None:
    desk = FlakyDesk(tmp_path, failures=1)
    stage = stage_with(desk, [])
    stage.step(None, message(alert_event(NETWORK)))
    stage.stopping = True
    with pytest.raises(StoreError, match="locked"):
        asyncio.run(stage.durable())
    asyncio.run(stage.durable())
    assert len(desk.real.alerts()) == 1


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (msgspec.structs.replace(alert_event(NETWORK), network="another"), "network_version"),
        (alert_event(NETWORK, segments=()), "out_of_range"),
        (alert_event(NETWORK, segments=(0, len(NETWORK.segments))), "out_of_range"),
    ],
)
def test_events_that_fit_no_network_are_refused(tmp_path: Path, event: AlertEvent, reason: str) -> None:
    stage = stage_with(FlakyDesk(tmp_path), [])
    with pytest.raises(BadRecord, match=reason):
        stage.step(None, message(event))
    with pytest.raises(BadRecord, match="malformed"):
        stage.step(None, Message("alerts", 0, 0, 0, b"", b"{}"))
