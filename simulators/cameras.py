"""Cameras that read plates at the end of a segment: vehicles that leave in, pseudonymous passages out.

A plate never leaves the camera: what is sent is a keyed hash whose key changes with the day, so that a vehicle can be
followed through one day and not into the next.
"""

from __future__ import annotations

import hashlib
from datetime import date

import numpy as np

from citybrain.network import Network
from citybrain.records import Passages
from simulators.engine import Engine
from simulators.roads import KMH_PER_MS, FloatArray, IntArray, Roads
from simulators.sensors import DELIVERY_MS, SPEED_NOISE

RECOGNITION = 0.9
"""Share of passing vehicles whose plate is read."""


def day_key(seed: int, day: date) -> bytes:
    """Return the key of a day's pseudonyms."""
    return hashlib.blake2b(f"{seed}:{day.isoformat()}".encode(), digest_size=32).digest()


def pseudonym(plate: str, key: bytes) -> int:
    """Return the keyed hash of a plate as a signed 64-bit number."""
    return int.from_bytes(hashlib.blake2b(plate.encode(), key=key, digest_size=8).digest(), "big", signed=True)


class Cameras:
    """The cameras of a network; sets the engine to note who leaves their segments."""

    def __init__(self, network: Network, roads: Roads, engine: Engine, *, seed: int, day: date) -> None:
        self.camera = np.flatnonzero(network.detectors.kind == "camera").astype(np.int32)
        self.link = network.detectors.segment[self.camera]
        self.roads = roads
        self._key = day_key(seed, day)
        self._vehicles = f"{seed}-{day.toordinal()}"
        if len(self.camera):
            engine.watched = np.isin(np.arange(len(roads)), self.link)

    def passages(
        self, engine: Engine, *, network: str, source: str, start_ms: int, watermark_ms: int, rng: np.random.Generator
    ) -> Passages | None:
        """Return who was read since the last call; None where nobody was.

        Parameters
        ----------
        engine
            The traffic.
        network, source
            Version of the network; name of the feed.
        start_ms
            Instant of the engine's second 0, ms UTC.
        watermark_ms
            End of the interval, ms UTC.
        rng
            Draws who is read, and the noise.
        """
        link, vehicle, instant_s = taken(engine)
        read = np.flatnonzero(rng.random(len(link)) < RECOGNITION)
        if not len(read):
            return None
        order = read[np.lexsort((vehicle[read], instant_s[read]))]
        link, vehicle, instant_s = link[order], vehicle[order], instant_s[order]
        speed = self.roads.speed_ms[link] * KMH_PER_MS * np.exp(rng.normal(0.0, SPEED_NOISE, len(link)))
        by_link = np.argsort(self.link, kind="stable")
        return Passages(
            network=network,
            source=source,
            received_ms=watermark_ms + DELIVERY_MS,
            watermark_ms=watermark_ms,
            camera=self.camera[by_link[np.searchsorted(self.link[by_link], link)]],
            passed_ms=start_ms + np.round(instant_s * 1000).astype(np.int64),
            plate=np.array([pseudonym(f"{self._vehicles}-{number}", self._key) for number in vehicle], dtype=np.int64),
            lane=np.zeros(len(link), np.uint8),
            vehicle_class=np.zeros(len(link), np.uint8),
            speed_kmh=speed,
        )


def taken(engine: Engine) -> tuple[IntArray, IntArray, FloatArray]:
    """Return and forget who left the watched links: link, vehicle, instant in s."""
    seen = engine.seen
    engine.seen = []
    if not seen:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
    link, vehicle, instant = (np.concatenate(column) for column in zip(*seen, strict=True))
    return link, vehicle, instant
