"""Live push: the city as it stands in, one tick for all viewers out.

`Live` belongs to one event loop; only `Live.apply` may be called from another thread. A tick is made when something
came, at most every 250 ms, and at least once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import structlog

from citybrain.clock import Clock
from citybrain.errors import CityBrainError
from citybrain.indices import congestion_level
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.records import AreaIndices, Forecasts, SegmentStates
from citybrain.settings import CitySettings
from citybrain.typical import Typical
from citybrain.wire import Message
from dashboard.live import notices
from dashboard.live.city import City, News
from dashboard.live.feeds import Demo
from dashboard.live.frames import ByteArray, Layer
from dashboard.live.hub import Hub
from dashboard.live.notices import (
    Alerts,
    Broker,
    Coming,
    DemoInfo,
    Hello,
    Levels,
    Notice,
    Ranking,
    Status,
    VitalsNotice,
)
from dashboard.live.rows import CONGESTED_LEVEL, AlertRow, shown_alerts
from dashboard.live.vitals import CHANGE_MS, CITY, SPARK_PANES, Vitals, city_panes, desk_of, known, vitals
from dashboard.texts import LANGUAGES
from infra.database.protocol import AlertDesk
from infra.stores.protocol import Store

log = structlog.get_logger(__name__)

TICK_MS = 1000
LOOK_S = 0.25
STATUS_MS = 2000
ALERTS_MS = 10_000
ALERTS_FOLLOWED_MS = 10_000
"""Alerts are read again for so long after one was announced: the desk may take it later than we hear of it."""
RESOLVED_READ = 50
SINCE_MS = 3 * 3_600_000
"""How far back a start looks for the beginning of congestion."""


@dataclass(slots=True)
class _Due:
    """Wall times, ms: of the last tick, status and reading of alerts, and until when alerts are followed."""

    tick_ms: int = 0
    status_ms: int = 0
    alerts_ms: int = 0
    follow_ms: int = 0


class Live:
    """The live view of one run; ``run`` is empty for the live city.

    Parameters
    ----------
    typical
        The typical week, None where there is none.
    demo
        Whose clock the city follows.
    broker
        Tells whether the log can be read.
    """

    def __init__(
        self, network: Network, settings: CitySettings, *, typical: Typical | None, store: Store, desk: AlertDesk,
        clock: Clock, metrics: Metrics, demo: Demo | None = None, broker: Callable[[], Broker] = lambda: "ok",
        run: str = "",
    ) -> None:  # fmt: skip
        self.network, self.settings, self.run = network, settings, run
        self.demo = demo or Demo()
        self.city = City(network, settings, typical, self.demo)
        self.hub = Hub(len(network.segments))
        self.alerts: tuple[AlertRow, ...] = ()
        """Alerts that stand and those resolved in the last hour, as last read."""
        self._store, self._desk, self._clock, self._metrics = store, desk, clock, metrics
        self._broker = broker
        self._due = _Due()
        self._sent: dict[str, object] = {}
        self._congested_km: float | None = None

    def apply(self, message: Message) -> None:
        """Take one message of the log; called by the thread that reads it."""
        self.city.apply(message, self._clock.now_ms())

    def take(self, states: list[SegmentStates], areas: AreaIndices | None, forecasts: list[Forecasts]) -> None:
        """Take results that came by another way than the log; thread-safe like `apply`."""
        self.city.take([*states, *([] if areas is None else [areas]), *forecasts], self._clock.now_ms())

    def restore(self) -> None:
        """Start from the store, so that a restart shows the map at once. A store that fails is logged, not fatal."""
        try:
            states = self._store.latest_states(run=self.run)
            areas = self._store.latest_areas(run=self.run)
            if areas is not None:
                self._restore_history(areas)
            self.city.restore(states, areas, self._store.latest_forecasts(run=self.run), self._clock.now_ms())
            self._restore_since()
        except CityBrainError as error:
            log.warning("map_starts_empty", reason=str(error))

    async def follow(self) -> None:
        """Restore, then tick until cancelled; an unforeseen error is logged and the next tick tried."""
        await asyncio.to_thread(self.restore)
        while True:
            try:
                await self.step()
            except Exception:
                log.exception("live_tick_failed", run=self.run)
            await asyncio.sleep(LOOK_S)

    async def step(self) -> None:
        """Read the alerts if they may have changed, and make a tick if one is due."""
        now, due = self._clock.now_ms(), self._due
        announced = self.city.take_alerts_changed()
        if announced:
            due.follow_ms = now + ALERTS_FOLLOWED_MS
        # By a time of its own: where there is news all the time, ticks come early, and none is ever due.
        if announced or now - due.alerts_ms >= (TICK_MS if now < due.follow_ms else ALERTS_MS):
            due.alerts_ms = now
            await asyncio.to_thread(self.read_alerts)
        if self.city.has_news or now - due.tick_ms >= TICK_MS:
            self.tick()

    def read_alerts(self) -> None:
        """Read the alerts from the desk."""
        standing = self._desk.alerts(states=("open", "acknowledged"), run=self.run)
        resolved = self._desk.alerts(states=("resolved",), limit=RESOLVED_READ, run=self.run)
        city = self.city
        self.alerts = tuple(shown_alerts([*standing, *resolved], self.network, city.places, self.city_ms()))
        city.standing_alerts = sum(1 for alert in self.alerts if alert.state != "resolved")

    def tick(self) -> None:
        """Encode what changed and queue it for every viewer."""
        now = self._clock.now_ms()
        self._due.tick_ms = now
        news = self.city.take_news()
        layers = self.city.layers() if news.layers or news.closed else {}
        texts = self._notices(now, layers.get(Layer.LEVEL), news)
        size = self.hub.tick(layers, [(kind, notices.text(notice)) for kind, notice in texts])
        if size:
            self._metrics.show("citybrain_live_tick_bytes", size)
        self._metrics.show("citybrain_live_viewers", len(self.hub.viewers))

    def city_ms(self) -> int:
        """Return the city's time, ms UTC."""
        return self.city.trust(self._clock.now_ms()).city_ms

    def hello(self) -> str:
        """Return the first message to a viewer."""
        demo = DemoInfo(simulated=self.demo.simulated, speed=self.demo.speed, label=self.demo.label)
        hello = Hello(
            network=self.network.version, demo=demo, run=self.run, now_ms=self._clock.now_ms(), tick_ms=TICK_MS,
            languages=LANGUAGES,
        )  # fmt: skip
        return notices.text(hello)

    def status(self) -> Status:
        """Return how much the screen can be trusted now."""
        now = self._clock.now_ms()
        trust = self.city.trust(now)
        stale = trust.stale and not self.run  # a replay that has been played does not grow old
        return Status(
            broker=self._broker(), feeds=trust.feeds, data_age_s=known(trust.age_s, 1),
            data_time_ms=trust.data_ms or None, wall_ms=now, stale=stale,
            since_ms=(trust.data_ms or None) if stale else None, simulated_now_ms=trust.city_ms,
            speed=self.demo.speed,
        )  # fmt: skip

    def vitals(self) -> Vitals:
        """Return the vital signs now."""
        status = self.status()
        desk = desk_of([(alert.state, alert.severity, alert.detected_ms) for alert in self.alerts])
        return vitals(
            self.city.history, self.city.typical, self.settings.timezone, health=self.city.health(), desk=desk,
            now_ms=status.simulated_now_ms, congested_km=self._congested_km, age_s=status.data_age_s,
            stale=status.stale,
        )  # fmt: skip

    def _notices(self, now: int, level: ByteArray | None, news: News) -> Iterator[tuple[str, Notice]]:
        """Yield the messages that say something new."""
        if level is not None:
            km = self.city.kilometres(level)
            self._congested_km = sum(km[CONGESTED_LEVEL:]) if sum(km[1:]) else None
            yield from self._if_new("levels", Levels(layer=Layer.LEVEL, km=km))
        status = self.status()
        trust = (status.broker, status.stale, [(feed.name, feed.state) for feed in status.feeds])
        if self._sent.get("status") != trust or now - self._due.status_ms >= STATUS_MS:
            self._sent["status"], self._due.status_ms = trust, now
            yield "status", status
        now_vitals = self.vitals()
        said = [item for item in now_vitals.items if item.key != "data_age"]
        if self._sent.get("vitals") != said:
            self._sent["vitals"] = said
            notice = VitalsNotice(
                time_ms=now_vitals.time_ms, provisional=now_vitals.provisional, items=now_vitals.items
            )
            yield "vitals", notice
        if news.closed:
            time_ms, rows = self.city.ranking()
            yield from self._if_new("ranking", Ranking(time_ms=time_ms, rows=rows))
        if news.signals:
            yield from self._if_new("coming", Coming(rows=self.city.coming()))
        yield from self._if_new("alerts", Alerts(alerts=self.alerts))

    def _if_new(self, kind: str, notice: Notice) -> Iterator[tuple[str, Notice]]:
        if self._sent.get(kind) != notice:
            self._sent[kind] = notice
            yield kind, notice

    def _restore_history(self, newest: AreaIndices) -> None:
        back_ms = max(SPARK_PANES * newest.pane_ms, CHANGE_MS)
        end_ms = newest.pane_start_ms + newest.pane_ms
        frame = self._store.areas(end_ms - newest.pane_ms - back_ms, end_ms, area=CITY, run=self.run)
        for pane in city_panes(frame, newest.pane_ms):
            self.city.history.add(pane)

    def _restore_since(self) -> None:
        end_ms, level = self.city.closed()
        congested = np.flatnonzero(level >= CONGESTED_LEVEL)
        if not len(congested):
            return
        pane_ms = self.settings.time.pane_ms
        speeds = self._store.heatmap(congested.tolist(), end_ms - SINCE_MS, end_ms, step_ms=pane_ms, run=self.run)
        free_flow = self.network.segments.free_flow_kmh[congested]
        levels = congestion_level(speeds.to_numpy(float), free_flow, self.settings.thresholds.level_breaks)
        since = np.zeros(len(self.network.segments), dtype=np.int64)
        since[congested] = began_ms(levels, speeds.index.to_numpy(np.int64))
        self.city.congested_since(since)


def began_ms(levels: ByteArray, start_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return since when segments have been at level 3 or worse until the last pane, ms UTC.

    Parameters
    ----------
    levels
        Levels, shape (panes, segments); 0 is not known and no break.
    start_ms
        Start of each pane, ascending, ms UTC, shape (panes,).

    Returns
    -------
    npt.NDArray[np.int64]
        Shape (segments,); 0 where the segment is not congested.

    Examples
    --------
    >>> began_ms(np.array([[3, 1, 4], [2, 1, 0], [4, 2, 3]], dtype=np.uint8), np.array([60, 120, 180])).tolist()
    [180, 0, 60]
    """
    began = np.zeros(levels.shape[1], dtype=np.int64)
    for row, at in zip(levels, start_ms, strict=True):
        began[(row >= CONGESTED_LEVEL) & (began == 0)] = at
        began[(row > 0) & (row < CONGESTED_LEVEL)] = 0
    return began
