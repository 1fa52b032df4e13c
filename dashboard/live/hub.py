"""Viewers of one live map: each tick in once, a bounded queue a viewer out. Lives on one event loop.

A viewer that reads too slowly misses ticks, and when it reads again it is sent everything as it is now. Memory of a
viewer is bounded by three ticks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import numpy as np

from dashboard.live import frames
from dashboard.live.frames import ByteArray, Layer

QUEUE_TICKS = 3

Frame = bytes | str


class Viewer:
    """One open page."""

    def __init__(self) -> None:
        self.ticks: asyncio.Queue[tuple[Frame, ...]] = asyncio.Queue(QUEUE_TICKS)
        self.behind = False
        """True where it missed a tick and must be sent everything."""

    def offer(self, tick: tuple[Frame, ...]) -> bool:
        """Queue a tick; False where it is full."""
        try:
            self.ticks.put_nowait(tick)
        except asyncio.QueueFull:
            return False
        return True


class Hub:
    """What all viewers see: the layers and the newest text message of each kind."""

    def __init__(self, segments: int) -> None:
        self.shown: dict[Layer, ByteArray] = {layer: np.zeros(segments, dtype=np.uint8) for layer in Layer}
        self.version = dict.fromkeys(Layer, 0)
        self.texts: dict[str, str] = {}
        self.viewers: set[Viewer] = set()

    def join(self, hello: str) -> Viewer:
        """Add a viewer; its queue starts with the hello and everything as it is now."""
        viewer = Viewer()
        viewer.offer((hello, *self.everything()))
        self.viewers.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer."""
        self.viewers.discard(viewer)

    def everything(self) -> tuple[Frame, ...]:
        """Return a snapshot of every layer and the newest text message of each kind."""
        return (*(self.snapshot(layer) for layer in Layer), *self.texts.values())

    def snapshot(self, layer: Layer) -> bytes:
        """Return the whole of a layer."""
        return frames.snapshot(layer, self.version[layer], self.shown[layer])

    def resync(self, viewer: Viewer, layer: Layer) -> None:
        """Send a viewer the whole of a layer, or, where it cannot take it now, everything at a later tick."""
        viewer.behind = not viewer.offer((self.snapshot(layer),)) or viewer.behind

    def tick(self, layers: dict[Layer, ByteArray], texts: Iterable[tuple[str, str]]) -> int:
        """Encode what changed once and queue it for everyone; returns the bytes of the tick."""
        tick: list[Frame] = []
        for layer, values in layers.items():
            if not np.array_equal(values, self.shown[layer]):
                self.version[layer] = (self.version[layer] + 1) % 2**32
                tick.append(frames.delta(layer, self.version[layer], self.shown[layer], values))
                self.shown[layer] = values
        for kind, text in texts:
            self.texts[kind] = text
            tick.append(text)
        if tick:
            self._publish(tuple(tick))
        return sum(len(part) for part in tick if isinstance(part, bytes))

    def _publish(self, tick: tuple[Frame, ...]) -> None:
        everything: tuple[Frame, ...] | None = None
        for viewer in self.viewers:
            if viewer.behind:
                everything = everything or self.everything()
                viewer.behind = not viewer.offer(everything)
            elif not viewer.offer(tick):
                viewer.behind = True
