"""The picture: every step from sources to sinks, in order. What is drawn from it: ``citybrain topology``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from citybrain.errors import ConfigError
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.settings import CitySettings
from citybrain.topics import TopicName
from citybrain.typical import Typical
from infra.archive import Archive
from infra.database.protocol import AlertDesk
from infra.stores.protocol import Store
from streams.aggregate import Aggregate
from streams.alert import AlertStage
from streams.archive import ArchiveStage
from streams.forecast import ForecastStage
from streams.match import MatchStage
from streams.outbox import OutboxStage
from streams.report import ReportStage
from streams.rollup import Rollup
from streams.stage import Stage
from streams.store import StoreStage
from streams.warn import WarnStage

Role = Literal["worker", "archive", "serve", "outbox"]
"""Stages of a role share one Faust app and one consumer group: the slowest of them holds up the others. So each that
waits for something outside Kafka has a role of its own (docs/decisions/0010-an-app-for-what-waits.md)."""
Program = Literal["worker", "serve"]
HOSTED: dict[Program, tuple[Role, ...]] = {"worker": ("worker", "archive"), "serve": ("serve", "outbox")}
"""The roles whose apps each program runs; ``citybrain up`` runs all."""
FORMER: dict[Role, Role] = {"archive": "worker", "outbox": "serve"}
"""Whose group read for a role before it had its own: it goes on from there (``streams.handover``)."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What stages are made of; ``run`` is empty for the live city, ``store`` and ``desk`` may be absent."""

    network: Network
    settings: CitySettings
    metrics: Metrics
    typical: Typical | None = None
    run: str = ""
    period_ms: tuple[int, int] | None = None
    """Of a replay run: panes outside were needed to compute, and are not stored."""
    store: Store | None = None
    desk: AlertDesk | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One stage: what it reads, what it writes (``effect``: outside Kafka), whose app runs it, how it is made."""

    name: str
    sources: tuple[TopicName, ...]
    sinks: tuple[TopicName, ...]
    role: Role
    make: Callable[[Ground], Stage[Any]]
    effect: str = ""


def _aggregate(g: Ground) -> Stage[Any]:
    return Aggregate.of(g.network, g.settings)


def _forecast(g: Ground) -> Stage[Any]:
    zone, pane_ms = g.settings.timezone, g.settings.time.pane_ms
    return ForecastStage(g.network, g.settings.thresholds, timezone=zone, pane_ms=pane_ms, typical=g.typical)


def _warn(g: Ground) -> Stage[Any]:
    zone, pane_ms = g.settings.timezone, g.settings.time.pane_ms
    return WarnStage(g.network, g.settings.thresholds, timezone=zone, pane_ms=pane_ms, typical=g.typical)


def _store(g: Ground) -> Stage[Any]:
    if g.store is None:
        raise ConfigError("stage `store`: no store seen, an open one needed")
    return StoreStage(g.store, g.network.version, g.metrics, run=g.run, period_ms=g.period_ms)


def _outbox(g: Ground) -> Stage[Any]:
    if g.desk is None:
        raise ConfigError("stage `outbox`: no alert desk seen, an open one needed")
    return OutboxStage(g.desk, g.network, g.metrics, run=g.run)


PIPELINE: tuple[Step, ...] = (
    # passages: key camera, plate pseudonyms -> readings: travel times between cameras
    Step("match", ("passages",), ("readings",), "worker", lambda g: MatchStage(g.network)),
    # readings: key source, columns by detector -> states: key partition/pane, columns by segment
    Step(
        "aggregate",
        ("readings",),
        ("segment-states", "live-states", "area-partials", "detector-health"),
        "worker",
        _aggregate,
    ),
    # area partials: key partition/pane -> area indices: key pane, columns by area
    Step("rollup", ("area-partials",), ("area-indices",), "worker", lambda g: Rollup.of(g.network, g.settings)),
    # first closes -> forecasts: key partition/pane, columns by segment and horizon
    Step("forecast", ("segment-states",), ("forecasts",), "worker", _forecast),
    # first closes -> signals: key partition/pane
    Step("warn", ("segment-states",), ("signals",), "worker", _warn),
    # events: key event id -> signals
    Step("report", ("events",), ("signals",), "worker", lambda g: ReportStage(g.network)),
    # signals of all partitions -> alerts: key alert id
    Step("alert", ("signals",), ("alerts",), "worker", lambda g: AlertStage(g.network, g.settings.thresholds)),
    # raw messages -> Parquet by topic, hour and partition
    Step(
        "archive",
        ("readings", "passages", "events"),
        (),
        "archive",
        lambda g: ArchiveStage(Archive(g.settings.archive_folder), g.metrics, keep=g.settings.archive_keep),
        "Parquet",
    ),
    # results -> rows: newest version of each (partition, pane)
    Step("store", ("segment-states", "area-indices", "forecasts"), (), "serve", _store, "DuckDB or InfluxDB"),
    # alerts -> the alert's row and a message for each endpoint, in one transaction
    Step("outbox", ("alerts",), (), "outbox", _outbox, "SQL, webhooks"),
)

REPLAYED = ("aggregate", "rollup", "forecast", "warn", "alert", "store", "outbox")
"""Stages of a replay run: what it reads is archived already; its alerts are kept, and nobody is told."""


def stages(role: Role, ground: Ground) -> list[Stage[Any]]:
    """Return the stages of one app, made for the ground; of a replay run only those that compute or store."""
    return [step.make(ground) for step in PIPELINE if step.role == role and (not ground.run or step.name in REPLAYED)]


def program_of(role: Role) -> Program:
    """Return the program that runs a role."""
    return next(program for program, roles in HOSTED.items() if role in roles)


def replayed(program: Program) -> tuple[Role, ...]:
    """Return the roles of a program that have anything to do in a replay run."""
    return tuple(role for role in HOSTED[program] if any(s.role == role and s.name in REPLAYED for s in PIPELINE))
