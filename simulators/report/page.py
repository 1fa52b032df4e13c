"""The report: a judgement in, one HTML page out that needs nothing but itself, light or dark as its reader likes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from citybrain.records import HORIZONS_MIN
from simulators.happenings import Mark
from simulators.judgement.forecasts import WAYS
from simulators.judgement.judge import Judgement
from simulators.report import cities, events, forecasts, happened, prose, segments
from simulators.report.style import STYLE
from simulators.report.wording import figure, index_score, local, signed


def page(judgement: Judgement, title: str, about: str, marks: Sequence[Mark] = ()) -> str:
    """Return the page; ``title`` names the run, ``about`` says how it was published, ``marks`` what a scenario did."""
    sections = [
        ("run", "What happened", happened.happened(judgement, marks)),
        ("segments", "Segments", segments.segments(judgement)),
        ("indices", "City and districts", cities.indices(judgement, marks)),
        ("events", "Events", events.events(judgement)),
        ("forecasts", "Forecasts", forecasts.forecasts(judgement)),
        ("detectors", "Detectors", events.detectors(judgement)),
        ("delay", "From sensor to screen", events.delay(judgement)),
        ("network", "The network", cities.network(judgement)),
        ("definitions", "Definitions and sources", prose.DEFINITIONS),
    ]
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{name}</h2>{text}</section>' for key, name, text in sections)
    first, last = (local(judgement, ms) for ms in judgement.span_ms)
    when = f"{first:%A %Y-%m-%d %H:%M} to {last:%A %Y-%m-%d %H:%M} ({judgement.timezone})"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}: published against true</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}: published against true</h1><p>{escape(when)}. {escape(about)}</p></header>"
        f"<nav>{links}</nav>{_tiles(judgement)}{body}</main></body></html>\n"
    )


def _tiles(judgement: Judgement) -> str:
    speed, flow = judgement.panes.score("speed_kmh"), judgement.panes.score("flow_vph")
    jam = judgement.panes.score("speed_kmh", state="jam")
    total = sum(judgement.vkm.values()) or 1.0
    tiles = [
        (
            "Speed, MAE",
            figure(speed.mae, "km/h"),
            f"bias {signed(speed.bias)}; in jams {signed(jam.bias)} km/h",
        ),
        (
            "Flow, MAE",
            figure(flow.mae, "veh/h"),
            f"bias {signed(flow.bias)} of {flow.truth:.0f} veh/h",
        ),
        (
            "Traffic observed",
            f"{100 * (judgement.vkm['own'] + judgement.vkm['part']) / total:.1f} %",
            "of the vehicle-kilometres",
        ),
    ]
    if judgement.area_published is not None:
        score = index_score(judgement, judgement.area_true, "tti", 0)
        tiles.append(("City's TTI, MAE", f"{score.mae:.3f}", f"bias {signed(score.bias, 3)}, quarter-hours"))
    if judgement.events is not None:
        felt = judgement.events.felt()
        found = [one.minutes for one in felt if one.alarm]
        after = f"of those with a queue, after {np.median(found):.0f} min" if found else "of those with a queue"
        tiles.append(("Incidents found", f"{len(found)} of {len(felt)}", after))
        false = len(judgement.events.false_incidents) / judgement.events.days
        tiles.append(
            ("False incident alerts", f"{false:.1f} a day", f"{len(judgement.events.false_congestion)} of congestion")
        )
    if judgement.forecasts is not None:
        at = HORIZONS_MIN.index(30)
        ours, stays, usual = (judgement.forecasts.mae(way)[at] for way in WAYS)
        tiles.append(
            ("Speed in 30 min, MAE", figure(ours, "km/h"), f"persistence {stays:.2f}, typical week {usual:.2f}")
        )
    inside = (
        f'<div class="tile"><span>{name}</span><b>{value}</b><small>{escape(after)}</small></div>'
        for name, value, after in tiles
    )
    return f'<div class="tiles">{"".join(inside)}</div>'
