"""The lookout: hosts of stages in, their lag, health and readiness out; an app that is stuck is ended.

It runs in a thread of its own, so that a loop that hangs is seen, too. It asks the brokers every few seconds where
topics end; what a consumer itself believes is not asked, for a consumer that fetches no more believes that all is done.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from citybrain.errors import CityBrainError
from citybrain.metrics import Metrics
from citybrain.topics import topic_address
from cli.main import STUCK
from infra.kafka.client import Brokers
from infra.kafka.offsets import Offsets, Place
from streams.progress import Look, lag
from streams.watchdog import Watchdog

EVERY_S = 5.0
END_S = 15.0
"""A process whose stuck app does not end in order within this is ended at once."""
END_LOOK_S = 0.1
STOP_S = 0.3
"""The end of the program waits so long for a question to the brokers; its thread ends with the process."""
SMALL_LAG = 200
"""Messages of a stage that may wait in a process that is ready; more only while they grow fewer."""
FRESH_MS = 15 * 60_000
"""A watermark further behind the city's clock than this is not fresh, as on the page (`dashboard.live.feeds`)."""
HEARD_S = 60.0
"""Feeds say something to every partition every 5 s: silence of so long is told."""

log = structlog.get_logger()


class Host(Protocol):
    """What is looked at (`cli.host.StageHost`)."""

    @property
    def role(self) -> str:
        """Whose stages it runs."""
        ...

    @property
    def production(self) -> bool:
        """True where a supervisor starts the process anew."""
        ...

    @property
    def state(self) -> str:
        """``ok``, or what is wrong in plain words."""
        ...

    @property
    def group(self) -> str:
        """Consumer group."""
        ...

    def looks(self) -> list[Look]:
        """What each stage does."""
        ...

    @property
    def ending(self) -> bool:
        """True from `end` until its app has ended."""
        ...

    def end(self, why: str) -> None:
        """End its app because it is stuck."""
        ...


class PartitionHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of one stage: offset applied, messages that wait (None not known), watermark, ms UTC."""

    topic: str
    partition: int
    position: int | None
    lag: int | None
    watermark_ms: int | None


class StageHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: what it does and since when, what waits, when the last checkpoint was complete; ages in s."""

    stage: str
    role: str
    state: str
    since_s: float
    lag: int | None
    held: int
    checkpoint_s: float | None
    partitions: list[PartitionHealth]


class Lookout:
    """Looks at the stages of this process.

    Parameters
    ----------
    brokers
        Where the topics are.
    hosts
        Returns the hosts; asked at every look.
    metrics
        Where it shows lag, delay and readiness.
    wall_clock
        True where the city's clock is the wall clock; else the newest record time stands for it.
    every_s, watchdog
        Seconds between two looks; makes who judges those of one host.
    leave
        Ends the process at once, with an exit code.
    """

    def __init__(
        self, brokers: Brokers, hosts: Callable[[], Sequence[Host]], metrics: Metrics, *, wall_clock: bool = False,
        every_s: float = EVERY_S, watchdog: Callable[[], Watchdog] = Watchdog, leave: Callable[[int], None] = os._exit,
    ) -> None:  # fmt: skip
        self._offsets, self._hosts, self._metrics = Offsets(brokers), hosts, metrics
        self._wall_clock, self._every_s, self._leave = wall_clock, every_s, leave
        self._watchdogs: defaultdict[str, Watchdog] = defaultdict(watchdog)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
        self._shown: dict[tuple[str, Place], int] = {}
        self._delays: set[tuple[str, int]] = set()
        self._lags: dict[str, dict[Place, int]] = {}
        self._before: dict[str, int] = {}
        self._heard: dict[str, tuple[int, float]] = {}
        self._looked_s: float | None = None
        self._broker = "not asked yet"

    def start(self) -> None:
        """Look every few seconds."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        self._offsets.close()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.look()
            except Exception as error:
                log.error("lookout_failed", error=repr(error))

    def look(self) -> None:
        """Take one look: ask, show, judge."""
        now_s = time.monotonic()
        passed_s = self._every_s if self._looked_s is None else now_s - self._looked_s
        self._looked_s = now_s
        hosts = [(host, host.looks()) for host in self._hosts()]
        try:
            lags = self._ask(hosts)
        except CityBrainError as error:
            self._broker, self._lags = str(error), {}
            self._forget()
            return
        self._before = {stage: sum(by.values()) for stage, by in self._lags.items()}
        self._broker, self._lags = "ok", lags
        self._show([look for _, looks in hosts for look in looks], now_s)
        if passed_s > 3 * self._every_s:
            self._forget()  # this process was stopped itself, or starved
        for host, looks in hosts:
            if why := self._watchdogs[host.role].look(passed_s, looks, lags):
                self._end(host, why)

    def _ask(self, hosts: Sequence[tuple[Host, Sequence[Look]]]) -> dict[str, dict[Place, int]]:
        places = {place for _, looks in hosts for look in looks for place in look.positions}
        ends = self._offsets.ends(places)
        found: dict[str, dict[Place, int]] = {}
        for host, looks in hosts:
            new = any(position is None for look in looks for position in look.positions.values())
            committed = self._offsets.committed(host.group) if new else {}
            found |= {look.stage: lag(look, ends, committed) for look in looks}
        return found

    def _show(self, looks: Sequence[Look], now_s: float) -> None:
        shown = {(look.stage, place): by for look in looks for place, by in self._lags[look.stage].items()}
        for stage, (topic, partition) in self._shown.keys() - shown.keys():
            self._metrics.drop("citybrain_lag_messages", stage, topic, str(partition))
        for (stage, (topic, partition)), behind in shown.items():
            self._metrics.show("citybrain_lag_messages", behind, stage, topic, str(partition))
        self._shown = shown
        delays = set()
        for look in looks:
            self._metrics.show("citybrain_held_messages", look.held, look.stage)
            if look.saved_s is not None:
                self._metrics.show("citybrain_saved_at_seconds", time.time() - (now_s - look.saved_s), look.stage)
            for partition in look.watermark_ms.keys() & look.record_ms.keys():
                delay_s = (look.record_ms[partition] - look.watermark_ms[partition]) / 1000
                delays.add((look.stage, partition))
                self._metrics.show("citybrain_watermark_delay_seconds", delay_s, look.stage, str(partition))
        for stage, partition in self._delays - delays:
            self._metrics.drop("citybrain_watermark_delay_seconds", stage, str(partition))
        self._delays = delays
        self._metrics.show("citybrain_ready", 0 if self.not_ready() else 1)

    def _forget(self) -> None:
        for watchdog in self._watchdogs.values():
            watchdog.forget()

    def _end(self, host: Host, why: str) -> None:
        log.error("process_stuck", role=host.role, reason=why)
        self._watchdogs[host.role].forget()
        host.end(why)
        deadline_s = time.monotonic() + END_S
        while host.production and host.ending and not self._stop.wait(END_LOOK_S):
            if time.monotonic() > deadline_s:
                log.error("process_ended_at_once", role=host.role, reason=f"it did not end within {END_S:g} s")
                self._leave(STUCK)
                return

    def parts(self) -> Mapping[str, str]:
        """Return the state of each part by name; ``ok`` is well."""
        return {"broker": self._broker} | {host.role: host.state for host in self._hosts()}

    def stages(self) -> list[StageHealth]:
        """Return how each stage is."""
        now_s = time.monotonic()
        return [self._health(host.role, look, now_s) for host in self._hosts() for look in host.looks()]

    def _health(self, role: str, look: Look, now_s: float) -> StageHealth:
        lags = self._lags.get(look.stage)
        return StageHealth(
            stage=look.stage,
            role=role,
            state=look.waits_for or look.phase,
            since_s=round(now_s - look.since_s, 1),
            lag=None if lags is None else sum(lags.values()),
            held=look.held,
            checkpoint_s=None if look.saved_s is None else round(now_s - look.saved_s, 1),
            partitions=[
                PartitionHealth(
                    topic=topic, partition=partition, position=position, lag=(lags or {}).get((topic, partition)),
                    watermark_ms=look.watermark_ms.get(partition),
                )
                for (topic, partition), position in sorted(look.positions.items())
            ],
        )  # fmt: skip

    def not_ready(self) -> list[str]:
        """Return why this process is not ready, each reason a sentence; empty where it is: what it gives is fresh."""
        if self._broker != "ok":
            return [f"the broker: {self._broker}"]
        reasons = [f"{host.role}: {host.state}" for host in self._hosts() if host.state != "ok"]
        looks = [look for host in self._hosts() for look in host.looks()]
        for look in looks:
            if look.phase in ("starting", "rebalancing", "restoring", "crashed"):
                reasons.append(f"stage {look.stage} is {look.phase}")
            else:
                reasons += self._behind(look)
        return reasons + self._old(looks) + self._silent(looks)

    def _behind(self, look: Look) -> list[str]:
        lags = self._lags.get(look.stage)
        if lags is None:
            return [f"stage {look.stage}: it is not known yet what waits"]
        now, before = sum(lags.values()), self._before.get(look.stage, 0)
        if now <= SMALL_LAG or now < before:
            return []
        return [f"stage {look.stage}: {now} messages wait, {SMALL_LAG} allowed unless they grow fewer"]

    def _old(self, looks: Sequence[Look]) -> list[str]:
        # Only of stages with a watermark: others may read topics whose times are the broker's.
        newest = max((at for look in looks if look.watermark_ms for at in look.record_ms.values()), default=0)
        now_ms = time.time_ns() // 1_000_000 if self._wall_clock else newest
        reasons = []
        for look in looks:
            behind_ms = now_ms - min(look.watermark_ms.values(), default=now_ms)
            if behind_ms > FRESH_MS:
                reasons.append(
                    f"stage {look.stage}: the watermark is {behind_ms / 1000:.0f} s behind the city's clock,"
                    f" {FRESH_MS / 1000:.0f} s allowed"
                )
        return reasons

    def _silent(self, looks: Sequence[Look]) -> list[str]:
        """Say which stages that read what feeds send have heard nothing of them for long."""
        reasons, now_s = [], time.monotonic()
        for look in looks:
            readings = [p or 0 for (topic, _), p in look.positions.items() if topic == topic_address("readings")]
            if not readings or not look.watermark_ms:
                continue
            far = sum(readings)
            if self._heard.get(look.stage, (-1, 0.0))[0] != far:
                self._heard[look.stage] = far, now_s
            silent_s = now_s - self._heard[look.stage][1]
            if silent_s > HEARD_S:
                reasons.append(f"stage {look.stage}: nothing has come from a feed for {silent_s:.0f} s")
        return reasons
