"""Cameras that read plates at the end of a segment: vehicles that leave in, pseudonymous passages out.

A plate never leaves the camera: what is sent is a keyed hash whose key changes with the day, so that a vehicle can be
followed through one day and not into the next. A plate that is misread becomes the pseudonym of another plate, which no
other camera will see again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.records import Passages
from simulators.engine import Engine
from simulators.roads import KMH_PER_MS, FloatArray, IntArray, Roads
from simulators.sensors import DELIVERY_MS, SPEED_NOISE

RECOGNITION = 0.9
"""Share of passing vehicles whose plate is read [judgement: by day and in dry weather]."""
Seen = tuple[IntArray, IntArray, FloatArray]
"""Who left watched links: link, vehicle, instant in s; arrays have shape (n,)."""


@dataclass(frozen=True, slots=True)
class CameraRules:
    """How well cameras read.

    Attributes
    ----------
    recognition
        Share of the passing vehicles whose plate is read, 0..1.
    misread
        Share of those read of which a letter is wrong, 0..1.
    """

    recognition: float = RECOGNITION
    misread: float = 0.0

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        for name in ("recognition", "misread"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"cameras: {name} {getattr(self, name)} seen, 0 to 1 allowed")


def day_key(seed: int, day: date) -> bytes:
    """Return the key of a day's pseudonyms."""
    return hashlib.blake2b(f"{seed}:{day.isoformat()}".encode(), digest_size=32).digest()


def pseudonym(plate: str, key: bytes) -> int:
    """Return the keyed hash of a plate as a signed 64-bit number."""
    return int.from_bytes(hashlib.blake2b(plate.encode(), key=key, digest_size=8).digest(), "big", signed=True)


class Cameras:
    """The cameras of a network; sets the engine to note who leaves their segments."""

    def __init__(
        self,
        network: Network,
        roads: Roads,
        engine: Engine,
        *,
        seed: int,
        day: date,
        rules: CameraRules | None = None,
        there: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        camera = network.detectors.kind == "camera"
        self.camera = np.flatnonzero(camera if there is None else camera & there).astype(np.int32)
        self.link = network.detectors.segment[self.camera]
        self.roads = roads
        self.rules = rules or CameraRules()
        self._key = day_key(seed, day)
        self._vehicles = f"{seed}-{day.toordinal()}"
        if len(self.camera):
            watch(engine, self.link)

    def passages(
        self,
        engine: Engine,
        *,
        network: str,
        source: str,
        start_ms: int,
        watermark_ms: int,
        rng: np.random.Generator,
        seen: Seen | None = None,
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
        seen
            Who left watched links since the last call (`taken`), where others want to know it too; by default asked
            of the engine.
        """
        link, vehicle, instant_s = taken(engine) if seen is None else seen
        mine = np.isin(link, self.link)
        link, vehicle, instant_s = link[mine], vehicle[mine], instant_s[mine]
        read = np.flatnonzero(rng.random(len(link)) < self.rules.recognition)
        if not len(read):
            return None
        order = read[np.lexsort((vehicle[read], instant_s[read]))]
        link, vehicle, instant_s = link[order], vehicle[order], instant_s[order]
        free_ms = self.roads.speed_ms[link] * self.roads.free_s[link] / engine.free_s[link]
        speed = free_ms * KMH_PER_MS * np.exp(rng.normal(0.0, SPEED_NOISE, len(link)))
        by_link = np.argsort(self.link, kind="stable")
        plates = [f"{self._vehicles}-{number}" for number in vehicle]
        if self.rules.misread:
            wrong = np.flatnonzero(rng.random(len(plates)) < self.rules.misread)
            for row, letter in zip(wrong, rng.integers(0, 2**32, len(wrong)), strict=True):
                plates[row] = f"{plates[row]}?{letter}"
        kind = engine.trips.kind
        return Passages(
            network=network,
            source=source,
            received_ms=watermark_ms + DELIVERY_MS,
            watermark_ms=watermark_ms,
            camera=self.camera[by_link[np.searchsorted(self.link[by_link], link)]],
            passed_ms=start_ms + np.round(instant_s * 1000).astype(np.int64),
            plate=np.array([pseudonym(plate, self._key) for plate in plates], dtype=np.int64),
            lane=np.zeros(len(link), np.uint8),
            vehicle_class=np.zeros(len(link), np.uint8) if kind is None else (kind[vehicle] + 1).astype(np.uint8),
            speed_kmh=speed,
        )


def watch(engine: Engine, link: IntArray) -> None:
    """Set the engine to note who leaves some links, besides those it watches already."""
    watched = np.zeros(engine.links, bool) if engine.watched is None else engine.watched.copy()
    watched[link] = True
    engine.watched = watched


def taken(engine: Engine) -> Seen:
    """Return and forget who left the watched links: link, vehicle, instant in s."""
    seen = engine.seen
    engine.seen = []
    if not seen:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
    link, vehicle, instant = (np.concatenate(column) for column in zip(*seen, strict=True))
    return link, vehicle, instant
