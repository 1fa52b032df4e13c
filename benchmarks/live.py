"""Live push: what a tick costs the server and the wire, with a tenth of the segments changing speed a second."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure
from citybrain.clock import ManualClock
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.records import SegmentStates, encode
from citybrain.topics import TopicName
from citybrain.wire import Message
from dashboard.live import Live
from dashboard.live.frames import HEADER, Layer
from dashboard.live.geometry import network_binary, plane
from dashboard.live.hub import Viewer
from infra.database.alerts import SqlAlertDesk
from infra.database.payload import Sender
from infra.database.tables import open_database
from infra.stores.factory import open_store
from tests.fakes import area_indices, city_settings, forecasts, grid_network, segment_states, typical_week

MIN = 60_000
TICKS = 20
CHANGED = 0.1
PARTITIONS = 4


def run() -> list[Figure]:
    """Measure 10,000 and 50,000 segments."""
    figures = []
    for columns, rows in ((51, 50), (112, 113)):
        with tempfile.TemporaryDirectory() as folder:
            figures += _measured(grid_network(columns, rows, partitions=PARTITIONS), Path(folder))
    return figures


def _measured(network: Network, folder: Path) -> list[Figure]:
    settings = city_settings(folder)
    settings.data_folder.mkdir()
    clock = ManualClock(100 * MIN)
    store, engine = open_store(settings, network), open_database(settings.database_address)
    desk = SqlAlertDesk(engine, network, (), clock, Sender(settings.name))
    live = Live(
        network, settings, typical=typical_week(network), store=store, desk=desk, clock=clock, metrics=Metrics()
    )
    n = len(network.segments)
    speed = np.random.default_rng(1).uniform(15, 50, n)
    _close(live, network, speed)
    viewer = live.hub.join(live.hello())
    live.tick()
    _drain(viewer)
    provisional, closed = _ticks(live, viewer, network, speed, clock)
    label = f"{n:,} segments"
    binary = network_binary(network, settings, plane(network))
    store.close()
    engine.dispose()
    return [
        Figure(f"live: apply open panes, {label}", provisional["apply"], "ms"),
        Figure(f"live: tick of open panes, {label}", provisional["tick"], "ms"),
        Figure(
            f"live: level layer of a tick, {label}", provisional["level"], "bytes", "under 2,000" if n < 20_000 else ""
        ),
        Figure(f"live: all layers of a tick, {label}", provisional["bytes"], "bytes"),
        Figure(f"live: tick with closed pane and ranking, {label}", closed["tick"], "ms"),
        Figure(f"live: the city once, {label}", len(binary), "bytes"),
    ]


def _ticks(
    live: Live,
    viewer: Viewer,
    network: Network,
    speed: np.ndarray[tuple[int], np.dtype[np.float64]],
    clock: ManualClock,
) -> tuple[dict[str, float], dict[str, float]]:
    """Return medians of ticks after open panes, and of ticks after closed ones."""
    generator = np.random.default_rng(2)
    rows: dict[str, list[float]] = {"apply": [], "tick": [], "level": [], "bytes": []}
    for k in range(TICKS):
        changed = generator.choice(len(speed), int(CHANGED * len(speed)), replace=False)
        speed[changed] = np.clip(speed[changed] + generator.normal(0, 3, len(changed)), 5, 55)
        clock.at_ms += 1000
        panes = [_pane(network, p, 100 * MIN, speed, k) for p in range(PARTITIONS)]
        messages = [_message("live-states", replace(pane, status="provisional")) for pane in panes]
        began = time.perf_counter()
        for each in messages:
            live.apply(each)
        rows["apply"].append(1000 * (time.perf_counter() - began))
        rows["tick"].append(_tick_ms(live))
        sizes = _drain(viewer)
        rows["level"].append(sizes[Layer.LEVEL])
        rows["bytes"].append(sum(sizes.values()))
    closed = []
    for k in range(5):
        _close(live, network, speed, (101 + k) * MIN)
        closed.append(_tick_ms(live))
        _drain(viewer)
    return {name: float(np.median(values)) for name, values in rows.items()}, {"tick": float(np.median(closed))}


def _tick_ms(live: Live) -> float:
    began = time.perf_counter()
    live.tick()
    return 1000 * (time.perf_counter() - began)


def _close(
    live: Live, network: Network, speed: np.ndarray[tuple[int], np.dtype[np.float64]], start_ms: int = 99 * MIN
) -> None:
    for p in range(PARTITIONS):
        live.apply(_message("segment-states", _pane(network, p, start_ms, speed, start_ms)))
        live.apply(_message("forecasts", forecasts(network, partition=p, pane_start_ms=start_ms)))
    live.apply(_message("area-indices", area_indices(network, pane_start_ms=start_ms)))


def _pane(
    network: Network, partition: int, start_ms: int, speed: np.ndarray[tuple[int], np.dtype[np.float64]], version: int
) -> SegmentStates:
    own = speed[network.segments_of(partition)]
    return segment_states(network, partition=partition, pane_start_ms=start_ms, speed_kmh=own, version=version)


def _message(topic: TopicName, record: object) -> Message:
    return Message(topic, 0, 0, 0, b"", encode(record))  # type: ignore[arg-type]


def _drain(viewer: Viewer) -> dict[int, int]:
    """Return the bytes of each layer that were queued."""
    sizes: dict[int, int] = dict.fromkeys(Layer, 0)
    while not viewer.ticks.empty():
        for frame in viewer.ticks.get_nowait():
            if isinstance(frame, bytes):
                sizes[HEADER.unpack_from(frame)[1]] += len(frame)
    return sizes
