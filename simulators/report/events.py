"""Events and detectors: what was found, what was false, and what faulty detectors did; their sections out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulators.judgement.events import Alarm, Found
from simulators.judgement.judge import Judgement
from simulators.report import charts, prose
from simulators.report.svg import legend
from simulators.report.wording import count, local, minutes_of, percent, place, signed, span_minutes, table, time_axis

FALSE_MOST = 25


def events(judgement: Judgement) -> str:
    """Return the section of events."""
    events = judgement.events
    if events is None:
        return "<p>The run has no alerts to judge.</p>"
    felt = events.felt()
    minutes = [one.minutes for one in felt if one.alarm]
    median = f", after {minutes[0]:.1f} minutes" if len(minutes) == 1 else ""
    if len(minutes) > 1:
        median = f", after {np.median(minutes):.1f} minutes in the median ({min(minutes):.0f} to {max(minutes):.0f})"
    rows = [
        ["incidents and closures", str(len(events.found)), f"{sum(1 for one in events.found if one.alarm)} found"],
        ["of them with a queue of 100 m and more", str(len(felt)), f"{len(minutes)} found{median}"],
        [
            "missed, but in a jam that was alarmed already",
            str(sum(1 for one in felt if one.open_before and not one.alarm)),
            "of those with a queue",
        ],
        [
            "incident alerts without an incident",
            str(len(events.false_incidents)),
            f"{len(events.false_incidents) / events.days:.1f} a day; {events.false_in_jam} where there was a jam",
        ],
        ["incident alerts at works or beside an incident", str(events.explained), "neither found nor false"],
        [
            "congestion alerts, no jam there",
            str(len(events.false_congestion)),
            f"{len(events.false_congestion) / events.days:.1f} a day",
        ],
        ["congestion alerts, a jam there", str(events.true_congestion), "beside those that found an incident"],
        ["congestion expected", str(events.expected), f"{events.came_true} came within an hour"],
    ]
    told = table(["What", "number", ""], rows, words=[2])
    if not events.found:
        return told + _false(judgement, events.false_incidents)
    chart = charts.timeline(
        [_event_row(judgement, one) for one in events.found],
        span_minutes(judgement),
        time_axis(judgement),
        label="Incidents and when they were found",
    )
    return (
        told
        + "<h3>Every incident and closure</h3>"
        + chart
        + legend(
            [
                ("found", "good", False),
                ("missed, with a queue", "bad", False),
                ("missed, without a queue to see", "seen", False),
            ]
        )
        + f'<p class="note">{prose.EVENTS}</p>'
        + _false(judgement, events.false_incidents)
    )


def _false(judgement: Judgement, alarms: Sequence[Alarm]) -> str:
    """Return the incident alerts that found none, so that each can be looked into."""
    if not alarms:
        return ""
    rows = []
    for alarm in alarms[:FALSE_MOST]:
        opened = local(judgement, alarm.detected_ms)
        lasted = (
            f"{(alarm.resolved_ms - alarm.detected_ms) / 60_000:.0f} min" if alarm.resolved_ms else "open at the end"
        )
        roads = dict.fromkeys(place(judgement.network, s) for s in sorted(alarm.segments))
        rows.append([f"{opened:%a %H:%M}", lasted, str(len(alarm.segments)), ", ".join(list(roads)[:3])])
    more = f"<p class='note'>The first {FALSE_MOST} of {len(alarms)}.</p>" if len(alarms) > FALSE_MOST else ""
    heads = ["opened", "lasted", "segments", "where"]
    return "<h3>Incident alerts without an incident</h3>" + table(heads, rows, words=[3]) + more


def _event_row(judgement: Judgement, one: Found) -> tuple[str, float, float, float, float | None, str]:
    incident = one.incident
    road = place(judgement.network, incident.segment)
    begin, end, gone = (
        float(m) for m in minutes_of(judgement, np.array([incident.onset_ms, incident.end_ms, incident.gone_ms]))
    )
    found = float(minutes_of(judgement, np.array([one.alarm.detected_ms]))[0]) if one.alarm else None
    kind = "found" if one.alarm else "missed" if incident.furthest_m >= 100 else "unfelt"
    what = f"{road[:20]}, closed" if incident.kind == "closure" else road[:26]
    return f"{what}, {incident.furthest_m:.0f} m", begin, end, gone, found, kind


def detectors(judgement: Judgement) -> str:
    """Return the section of detectors."""
    rows = []
    for at, kind in enumerate(judgement.health[1:], 1):
        panes, used = int(judgement.faulty_panes[at]), int(judgement.used_panes[at])
        if panes:
            speed, flow = (judgement.panes.score(metric, health=kind) for metric in ("speed_kmh", "flow_vph"))
            rows.append(
                [
                    kind.replace("_", " "),
                    f"{panes * judgement.pane_ms / 3_600_000:,.0f}",
                    percent(1 - used / panes),
                    signed(speed.bias),
                    signed(flow.bias, 0),
                ]
            )
    text = f"<p>{prose.DETECTORS}</p>{_found(judgement)}<h3>What faults did to what was published</h3>"
    text += (
        table(["Fault", "segment-hours", "left out", "speed bias, km/h", "flow bias, veh/h"], rows)
        if rows
        else "<p>No detector had a fault.</p>"
    )
    if judgement.faulty_panes[0]:
        share = percent(judgement.well_unused_panes / judgement.faulty_panes[0])
        text += f"<p>Of segments whose detectors were well, nothing was published {share} of the time.</p>"
    return text


def _found(judgement: Judgement) -> str:
    """Return which faults were found."""
    faults = judgement.faults
    if faults is None:
        return f"<p>{prose.NO_VERDICTS}</p>"
    rows = []
    for one in faults.kinds:
        said = ", ".join(f"{count(n)} as {verdict}" for verdict, n in one.verdicts.items())
        median = f"{np.median(one.minutes):.0f} min" if one.minutes else "\N{EN DASH}"
        rows.append(
            [
                one.kind.replace("_", " "),
                count(one.faults),
                count(len(one.minutes)),
                percent(len(one.minutes) / one.faults),
                median,
                said,
            ]
        )
    total, hit = sum(one.faults for one in faults.kinds), sum(len(one.minutes) for one in faults.kinds)
    if total:
        rows.insert(0, ["all", count(total), count(hit), percent(hit / total), "", ""])
    heads = ["Fault", "number", "found", "share", "found after", "as what"]
    wrong = "none was of one that was well then"
    if faults.wrong:
        share = percent(faults.wrongly_doubted / max(faults.well, 1))
        wrong = (
            f"{count(faults.wrongly_doubted)} were of ones that were well then, {share} of the {count(faults.well)} "
            f"without a fault, for {faults.wrong_h:,.0f} hours together"
        )
    wrong = f"<p>Verdicts were given of {count(faults.doubted)} detectors: {wrong}.</p>"
    return "<h3>Faults found</h3>" + (table(heads, rows, total=True, words=[5]) if total else "") + wrong


def delay(judgement: Judgement) -> str:
    """Return the section of the time from a sensor to the screen, as far as it is known of a run."""
    late = judgement.close_after_s
    if late is None or not len(late):
        return f"<p>{prose.NO_CLOSING} {prose.CLOSING}</p>"
    p50, p90, p99 = np.percentile(late, [50, 90, 99])
    return (
        f"<p>A pane was closed {p50:.0f} s (median), {p90:.0f} s (90 %) and {p99:.0f} s (99 %) after its end "
        f"by the time in the log: {prose.CLOSES_WHEN} {prose.CLOSING}</p>"
    )
