"""What happened: a run's truth and what its scenario did in; their section of the report out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulators.happenings import Mark
from simulators.judgement.judge import LONG_MS, Judgement
from simulators.report import prose
from simulators.report.wording import count, local, named, place, table

NAMED_MOST = 40


def happened(judgement: Judgement, marks: Sequence[Mark]) -> str:
    """Return the section."""
    parts = [f"<p>{prose.HAPPENED}</p>", table(["", "", ""], _totals(judgement), words=[2])]
    if rows := [_row(judgement, mark) for mark in marks[:NAMED_MOST]]:
        parts += ["<h3>What the scenario did</h3>", table(["What", "from", "until", "where"], rows, words=[3])]
    return "".join(parts)


def _totals(judgement: Judgement) -> list[list[str]]:
    city, trips = judgement.city, judgement.trips
    vkt, vht, free = (float(city[name].sum()) for name in ("vkt_veh_km", "vht_veh_h", "vht_free_flow_veh_h"))
    by_segments = sum(judgement.vkm.values())
    rows = []
    if trips:
        rows += [
            ["trips begun", count(trips.begun), f"{count(trips.arrived)} of them arrived"],
            [
                "minutes a trip",
                f"{trips.mean_min:.1f}",
                f"{trips.lost_min:.1f} of them lost, waiting to enter included",
            ],
        ]
    rows += [
        ["vehicle-kilometres", count(round(vkt)), f"{count(round(by_segments))} by flow times length of all segments"],
        ["vehicle-hours", count(round(vht)), f"{count(round(vht - free))} of them lost against free flow"],
        ["mean speed, km/h", f"{vkt / vht if vht else float('nan'):.1f}", ""],
    ]
    quarters = judgement.area_true.over(LONG_MS)
    tti = quarters.tti[:, 0]
    if len(tti) and not np.isnan(tti).all():
        worst = int(np.nanargmax(tti))
        when = local(judgement, int(quarters.start_ms[worst]))
        rows.append(["the city's highest TTI", f"{tti[worst]:.2f}", f"in the quarter-hour from {when:%A %H:%M}"])
    for name, at in (("most", int(city.on_road_veh.argmax())), ("fewest", int(city.on_road_veh.argmin()))):
        when = local(judgement, int(city.minute_ms.iloc[at]))
        rows.append([f"{name} vehicles on the road", count(int(city.on_road_veh.iloc[at])), f"at {when:%A %H:%M}"])
    return rows


def _row(judgement: Judgement, mark: Mark) -> list[str]:
    row = {str(name): at for at, name in enumerate(judgement.network.segments.id)}
    roads = [place(judgement.network, row[name]) if name in row else name for name in mark.segments]
    begin, end = (local(judgement, ms) for ms in (mark.onset_ms, mark.end_ms))
    return [named(mark), f"{begin:%a %H:%M}", f"{end:%a %H:%M}", ", ".join(dict.fromkeys(roads))]
