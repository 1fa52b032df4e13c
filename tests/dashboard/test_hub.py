from __future__ import annotations

import asyncio

import numpy as np
import numpy.typing as npt

from dashboard.live import frames
from dashboard.live.frames import Layer
from dashboard.live.hub import QUEUE_TICKS, Frame, Hub, Viewer

N = 1000


class Page:
    """What a browser makes of what it is sent: layers, texts, and requests where a version is missing."""

    def __init__(self, hub: Hub, viewer: Viewer) -> None:
        self.hub, self.viewer = hub, viewer
        self.layers: dict[Layer, npt.NDArray[np.uint8]] = {}
        self.version: dict[Layer, int] = {}
        self.texts: list[str] = []

    def read(self) -> None:
        while not self.viewer.ticks.empty():
            for frame in self.viewer.ticks.get_nowait():
                self.take(frame)

    def take(self, data: Frame) -> None:
        if isinstance(data, str):
            self.texts.append(data)
            return
        frame = frames.decode(data)
        if frame.kind == frames.SNAPSHOT:
            self.layers[frame.layer] = frame.values.copy()
        elif frame.version != self.version[frame.layer] + 1:
            self.hub.resync(self.viewer, frame.layer)
            return
        else:
            self.layers[frame.layer][frame.index] = frame.values
        self.version[frame.layer] = frame.version


def levels(tick: int) -> dict[Layer, npt.NDArray[np.uint8]]:
    generator = np.random.default_rng(tick)
    values = np.zeros(N, dtype=np.uint8)
    values[generator.choice(N, 50, replace=False)] = generator.integers(1, 6, 50)
    return {Layer.LEVEL: values}


def test_a_viewer_is_greeted_with_everything_as_it_is() -> None:
    hub = Hub(N)
    hub.tick(levels(1), [("status", "s1")])
    page = Page(hub, hub.join("hello"))
    page.read()
    assert page.texts == ["hello", "s1"]
    assert set(page.layers) == set(Layer)
    assert (page.layers[Layer.LEVEL] == levels(1)[Layer.LEVEL]).all()


def test_deltas_keep_a_page_equal_to_the_server() -> None:
    hub = Hub(N)
    page = Page(hub, hub.join("hello"))
    for tick in range(20):
        hub.tick(levels(tick), [])
        page.read()
        assert (page.layers[Layer.LEVEL] == hub.shown[Layer.LEVEL]).all()


def test_a_tick_in_which_nothing_changed_sends_nothing() -> None:
    hub = Hub(N)
    hub.tick(levels(1), [])
    page = Page(hub, hub.join("hello"))
    page.read()
    assert hub.tick(levels(1), []) == 0
    assert page.viewer.ticks.empty()


def test_every_viewer_is_sent_the_same_object_encoded_once() -> None:
    hub = Hub(N)
    viewers = [hub.join("hello") for _ in range(3)]
    hub.tick(levels(1), [])
    assert len({id(viewer.ticks._queue[-1]) for viewer in viewers}) == 1  # type: ignore[attr-defined]


def test_a_viewer_that_stops_reading_holds_three_ticks_and_is_brought_up_to_date() -> None:
    hub = Hub(N)
    page = Page(hub, hub.join("hello"))
    for tick in range(100):
        hub.tick(levels(tick), [("status", f"s{tick}")])
    assert page.viewer.ticks.qsize() == QUEUE_TICKS
    page.read()
    hub.tick(levels(100), [])
    page.read()
    assert (page.layers[Layer.LEVEL] == hub.shown[Layer.LEVEL]).all()
    assert page.texts[-1] == "s99"


def test_a_page_that_missed_a_version_asks_and_gets_the_whole_layer() -> None:
    hub = Hub(N)
    page = Page(hub, hub.join("hello"))
    page.read()
    hub.tick(levels(1), [])
    page.viewer.ticks.get_nowait()
    hub.tick(levels(2), [])
    page.read()
    page.read()
    assert (page.layers[Layer.LEVEL] == hub.shown[Layer.LEVEL]).all()


def test_a_page_that_asks_without_end_gets_no_more_memory() -> None:
    hub = Hub(N)
    viewer = hub.join("hello")
    for _ in range(1000):
        hub.resync(viewer, Layer.SPEED)
    assert viewer.ticks.qsize() == QUEUE_TICKS
    assert viewer.behind


def test_who_left_is_sent_nothing_more() -> None:
    async def leaving() -> int:
        hub = Hub(N)
        viewer = hub.join("hello")
        hub.leave(viewer)
        hub.tick(levels(1), [])
        return viewer.ticks.qsize()

    assert asyncio.run(leaving()) == 1
