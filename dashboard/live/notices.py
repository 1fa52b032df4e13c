"""Text messages of the live socket: one record a kind, as JSON. What a page knows beside the map's layers."""

from __future__ import annotations

from typing import Literal

import msgspec

from dashboard.live.feeds import Feed
from dashboard.live.rows import AlertRow, ComingRow, RankingRow
from dashboard.live.vitals import Vital

Broker = Literal["ok", "lost"]


class DemoInfo(msgspec.Struct, frozen=True, kw_only=True):
    """See `dashboard.live.feeds.Demo`."""

    simulated: bool
    speed: float
    label: str


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="hello"):
    """The first message. ``network`` is the version that the segment indices belong to; ``run`` is empty when live."""

    network: str
    demo: DemoInfo
    run: str
    now_ms: int
    tick_ms: int
    languages: tuple[str, ...]


class Status(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="status"):
    """How much the screen can be trusted; sent at least every 2 s.

    Attributes
    ----------
    broker
        Whether the log can be read.
    feeds
        Every feed that has been heard.
    data_age_s
        Age of the newest data on the map, s of real time; None where not known.
    data_time_ms
        Its end, the city's time, ms UTC; None before the first.
    wall_ms
        The server's clock.
    stale
        True where nothing newer came for three intervals of the feed.
    since_ms
        Where stale: the end of the newest data, the city's time; None otherwise, or where nothing ever came.
    simulated_now_ms
        The city's time: the wall clock, or the clock of a feed that lives at another time.
    speed
        How many times faster than the wall clock that one runs.
    """

    broker: Broker
    feeds: tuple[Feed, ...]
    data_age_s: float | None
    data_time_ms: int | None
    wall_ms: int
    stale: bool
    since_ms: int | None
    simulated_now_ms: int
    speed: float


class VitalsNotice(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="vitals"):
    """See `dashboard.live.vitals.Vitals`."""

    time_ms: int
    provisional: bool
    items: tuple[Vital, ...]


class Levels(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="levels"):
    """Length of the segments at each level 0..5 of a layer, km."""

    layer: int
    km: tuple[float, ...]


class Ranking(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="ranking"):
    """The worst stretches; ``time_ms`` is the end of the newest pane."""

    time_ms: int
    rows: tuple[RankingRow, ...]


class Alerts(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="alerts"):
    """Alerts that stand and those resolved in the last hour."""

    alerts: tuple[AlertRow, ...]


class Coming(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="coming"):
    """Where congestion is expected."""

    rows: tuple[ComingRow, ...]


Notice = Hello | Status | VitalsNotice | Levels | Ranking | Alerts | Coming


def text(notice: Notice) -> str:
    """Return the message as JSON."""
    return msgspec.json.encode(notice).decode()
