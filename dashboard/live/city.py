"""The city as it stands: messages of the log in, what the screen shows out. One object a run, safe between threads.

The reader of the log calls `apply` from its own thread; the event loop asks. ``dashboard.live.push`` sends.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt
import structlog

from citybrain.errors import BadRecord, Reason
from citybrain.messages import DeadLetter, Signals, decode_json
from citybrain.network import Network
from citybrain.records import AreaIndices, DetectorHealth, Forecasts, IntArray, Readings, SegmentStates, decode
from citybrain.settings import CitySettings
from citybrain.topics import TopicName
from citybrain.typical import Typical
from citybrain.wire import Message
from dashboard.live.feeds import Demo, Feeds, Trust
from dashboard.live.frames import Layer
from dashboard.live.geometry import Plane, plane
from dashboard.live.layers import ByteArray, FloatArray, Layers
from dashboard.live.places import Places
from dashboard.live.rows import ComingRow, RankingRow, coming, ranking
from dashboard.live.sensors import DetectorState, DoubtReason, Health, Sensors
from dashboard.live.vitals import CityHistory, city_pane

log = structlog.get_logger(__name__)

TOPICS_SHOWN: tuple[TopicName, ...] = (
    "readings",
    "live-states",
    "segment-states",
    "area-indices",
    "forecasts",
    "signals",
    "alerts",
    "dead-letters",
    "detector-health",
)
"""What the screen reads of the log."""
Shown = Readings | SegmentStates | AreaIndices | Forecasts | Signals | DetectorHealth
LETTERS_KEPT = 50
SIGNALS_KEPT_PANES = 5


@dataclass(slots=True)
class News:
    """What came since the last look."""

    layers: bool = True
    closed: bool = True
    signals: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Now:
    """Every segment now: speed, km/h (NaN not known), level, and the layer against typical."""

    data_ms: int
    speed_kmh: FloatArray
    level: ByteArray
    against_typical: ByteArray


@dataclass(frozen=True, slots=True)
class Letters:
    """Dead letters since the start: readings refused by reason, and the newest letters, newest first."""

    counts: dict[Reason, int]
    newest: tuple[DeadLetter, ...]


class City:
    """The city as it stands."""

    def __init__(self, network: Network, settings: CitySettings, typical: Typical | None, demo: Demo) -> None:
        self.network, self.settings = network, settings
        self.plane: Plane = plane(network)
        self.places = Places(network, self.plane)
        self.history = CityHistory()
        self._layers = Layers(network, settings, typical)
        self._feeds = Feeds(demo, settings.time.pane_ms)
        self._sensors = Sensors(network)
        self._signals: dict[int, Signals] = {}
        self._areas: AreaIndices | None = None
        self._areas_restored = False
        self._counts: Counter[Reason] = Counter()
        self._letters: deque[DeadLetter] = deque(maxlen=LETTERS_KEPT)
        self._news = News()
        self._lock = threading.RLock()
        self._alerts_changed = threading.Event()
        self.standing_alerts = 0
        """Number of alerts that are not resolved, for the history of vital signs."""

    @property
    def typical(self) -> Typical | None:
        """The typical week, None where there is none."""
        return self._layers.typical

    def use_typical(self, typical: Typical) -> None:
        """Compare with another typical week from now on."""
        with self._lock:
            self._layers.use_typical(typical)
            self._news.layers = True

    def apply(self, message: Message, wall_ms: int) -> None:
        """Take one message; one that cannot be read, or is of another network, is logged and left out."""
        try:
            record = _read(message)
        except BadRecord as error:
            log.warning("message_not_shown", topic=message.topic, offset=message.offset, reason=str(error))
            return
        if isinstance(record, DeadLetter):
            with self._lock:
                self._counts[record.reason] += record.count
                self._letters.appendleft(record)
        elif record is None:
            self.alerts_changed()
        else:
            self.take([record], wall_ms)

    def take(self, records: Sequence[Shown], wall_ms: int) -> None:
        """Take results; those of another network are left out."""
        with self._lock:
            for record in records:
                if record.network == self.network.version:
                    self._take(record, wall_ms)

    def restore(
        self, states: list[SegmentStates], areas: AreaIndices | None, forecasts: list[Forecasts], wall_ms: int
    ) -> None:
        """Start from what the store holds."""
        here = [pane for pane in states if pane.network == self.network.version]
        with self._lock:
            for pane in here:
                self._layers.restore(pane)
            for forecast in forecasts:
                if forecast.network == self.network.version:
                    self._layers.take_forecasts(forecast)
            if areas is not None and areas.network == self.network.version and self._areas is None:
                self._take_areas(areas)
                self._areas_restored = True
            if here:
                self._feeds.restore(self._layers.closed_end_ms, wall_ms)
            self._news = News()

    def congested_since(self, since_ms: npt.NDArray[np.int64]) -> None:
        """Set since when segments have been congested, ms UTC, 0 where they are not; shape (segments,)."""
        with self._lock:
            self._layers.congested_since_ms[:] = since_ms

    def closed(self) -> tuple[int, ByteArray]:
        """Return the end of the newest closed pane, ms UTC, and the level of every segment in it."""
        with self._lock:
            return self._layers.closed_end_ms, self._layers.closed_level.copy()

    def take_news(self) -> News:
        """Return what came since the last call."""
        with self._lock:
            news, self._news = self._news, News(layers=False, closed=False, signals=False)
            return news

    def alerts_changed(self) -> None:
        """Have the alerts read again."""
        self._alerts_changed.set()

    def take_alerts_changed(self) -> bool:
        """Return whether alerts may have changed since the last call."""
        changed = self._alerts_changed.is_set()
        self._alerts_changed.clear()
        return changed

    @property
    def has_news(self) -> bool:
        """True where something came that changes the map."""
        return self._news.layers or self._news.closed

    def layers(self) -> dict[Layer, ByteArray]:
        """Return every layer, one byte a segment."""
        with self._lock:
            return self._layers.encoded(self._feeds.data_ms)

    def now(self) -> Now:
        """Return every segment now."""
        with self._lock:
            speed, level = self._layers.speed_and_level()
            layers = self._layers.encoded(self._feeds.data_ms)
            return Now(self._feeds.data_ms, speed, level, layers[Layer.AGAINST_TYPICAL])

    def kilometres(self, level: ByteArray) -> tuple[float, ...]:
        """Return the length of the segments at each level 0..5, km."""
        return tuple(self._layers.kilometres(level))

    def ranking(self) -> tuple[int, tuple[RankingRow, ...]]:
        """Return the end of the newest pane, ms UTC, and its worst stretches."""
        with self._lock:
            return self._layers.closed_end_ms, tuple(ranking(self._layers, self.places))

    def coming(self) -> tuple[ComingRow, ...]:
        """Return where congestion is expected, of partitions that still speak."""
        with self._lock:
            newest = max((signals.pane_start_ms for signals in self._signals.values()), default=0)
            kept = [
                signal
                for signals in self._signals.values()
                if signals.pane_start_ms >= newest - SIGNALS_KEPT_PANES * signals.pane_ms
                for signal in signals.signals
            ]
        return tuple(coming(kept, self.places, len(self.network.segments)))

    def areas(self) -> AreaIndices | None:
        """Return the newest area indices."""
        return self._areas

    def trust(self, wall_ms: int) -> Trust:
        """Return how far the map can be trusted now."""
        with self._lock:
            return self._feeds.trust(wall_ms)

    def health(self) -> Health:
        """Return the counts of detectors."""
        with self._lock:
            return self._sensors.health()

    def detector(self, detector: int) -> tuple[int | None, DetectorState]:
        """Return when a detector was last seen, ms UTC (None never), and its state."""
        with self._lock:
            return int(self._sensors.last_seen_ms[detector]) or None, self._sensors.state(detector)

    def doubt(self, detector: int) -> tuple[DoubtReason | None, int | None]:
        """Return why a detector is doubtful and since when, ms UTC; None where it is not, or not known."""
        with self._lock:
            return self._sensors.doubt(detector)

    def not_well(self) -> IntArray:
        """Return the detectors that are silent or doubtful, ascending."""
        with self._lock:
            return np.flatnonzero(self._sensors.silent() | self._sensors.doubtful()).astype(np.int32)

    def letters(self) -> Letters:
        """Return the dead letters."""
        with self._lock:
            return Letters({reason: self._counts[reason] for reason in get_args(Reason)}, tuple(self._letters))

    def _take(self, record: Shown, wall_ms: int) -> None:
        if isinstance(record, Readings):
            self._feeds.take_readings(record, wall_ms)
            self._sensors.take(record)
        elif isinstance(record, DetectorHealth):
            self._sensors.judged(record)
        elif isinstance(record, SegmentStates):
            if self._layers.take_states(record):
                self._feeds.take_states(record, wall_ms)
                self._news.layers = True
                self._news.closed = self._news.closed or record.status != "provisional"
        elif isinstance(record, AreaIndices):
            self._take_areas(record)
        elif isinstance(record, Forecasts):
            self._news.layers = self._layers.take_forecasts(record) or self._news.layers
        elif record.partition >= 0:
            self._signals[record.partition] = record
            self._news.signals = True

    def _take_areas(self, areas: AreaIndices) -> None:
        old = self._areas
        if self._areas_restored and old is not None and areas.pane_start_ms < old.pane_start_ms:
            self.history.rewind(areas.pane_start_ms)
            old = None
        self._areas_restored = False
        if old is None or (areas.pane_start_ms, areas.version) >= (old.pane_start_ms, old.version):
            self._areas = areas
        share = self._sensors.health().reporting
        sensors = np.nan if share is None else 100 * share
        self.history.add(city_pane(areas, alerts=self.standing_alerts, sensors=sensors))


def _read(message: Message) -> Shown | DeadLetter | None:
    """Return the record of a message; None for topics that only say that something changed."""
    match message.topic:
        case "readings":
            return decode(Readings, message.value)
        case "live-states" | "segment-states":
            return decode(SegmentStates, message.value)
        case "area-indices":
            return decode(AreaIndices, message.value)
        case "forecasts":
            return decode(Forecasts, message.value)
        case "signals":
            return decode_json(Signals, message.value)
        case "detector-health":
            return decode(DetectorHealth, message.value)
        case "dead-letters":
            return decode_json(DeadLetter, message.value)
        case _:
            return None
