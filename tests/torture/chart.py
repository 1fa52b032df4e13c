"""The chart and the page: the results of a long run in, ``docs/torture.svg`` and the measured part of the page out.

``python -m tests.torture.chart`` renders both from ``docs/torture.json``.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

RESULTS, CHART, PAGE = (ROOT / "docs" / name for name in ("torture.json", "torture.svg", "reliability.md"))
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
WIDTH, HEIGHT = 960, 400
LEFT, RIGHT, TOP, BOTTOM = 74, 16, 46, 58
KIND_COLOR = {"broker": "#d55e00", "serve": "#cc79a7", "outbox": "#cc79a7", "store": "#e69f00", "batcher": "#999999"}
WORKER_COLOR = "#b2182b"
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.small{font-size:11px;fill:#666}"
    ".grid{stroke:#ddd;stroke-width:1}.in{fill:none;stroke:#0072b2;stroke-width:2}"
    ".out{fill:none;stroke:#009e73;stroke-width:2}"
)


def chart(results: dict[str, Any]) -> str:
    """Return the curves of readings in and readings counted over time, and the faults below, as SVG."""
    sent, counted = results["in"], results["counted_curve"]
    last_s: float = max(point[0] for point in [*sent, *counted]) * 1.02
    most: float = max(point[1] for point in [*sent, *counted]) * 1.05

    def x(at_s: float) -> float:
        return round(LEFT + at_s / last_s * (WIDTH - LEFT - RIGHT), 1)

    def y(total: float) -> float:
        return round(HEIGHT - BOTTOM - total / most * (HEIGHT - TOP - BOTTOM), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{title(results)}</title><style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20">{title(results)}</text>',
    ]
    for total in ticks(most, 5):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(total)}" y2="{y(total)}"/>')
        parts.append(f'<text class="small" text-anchor="end" x="{LEFT - 6}" y="{y(total) + 4}">{total:,.0f}</text>')
    parts += [
        f'<text class="small" text-anchor="middle" x="{x(60 * minute)}" y="{HEIGHT - 8}">{minute:g} min</text>'
        for minute in ticks(last_s / 60, 8)
    ]
    floor = HEIGHT - BOTTOM
    for fault in results["happened"]:
        at = x(fault["at_s"])
        color = KIND_COLOR.get(fault["kind"], WORKER_COLOR)
        if fault["kind"] in GENTLE_KINDS:
            mark = f'<circle cx="{at}" cy="{floor + 28}" r="3.5" fill="none" stroke="#666"/>'
        else:
            mark = f'<line x1="{at}" x2="{at}" y1="{floor + 4}" y2="{floor + 18}" stroke="{color}" stroke-width="2"/>'
        parts.append(f"<g><title>{fault['at_s']} s: {fault['kind']}, {fault['note']}</title>{mark}</g>")
    parts.append(f'<polyline class="in" points="{points(sent, x, y)}"/>')
    parts.append(f'<polyline class="out" points="{points(counted, x, y)}"/>')
    parts.append(legend())
    return "\n".join([*parts, "</svg>\n"])


GENTLE_KINDS = ("rolling-restart", "zombie", "late-worker", "archive-full", "store-away")


def title(results: dict[str, Any]) -> str:
    """Return what is seen, in one line."""
    return (
        f"{results['kills']} kills: {results['readings']:,} readings in, {results['counted']:,} counted,"
        f" {results['alerts']} alerts in order"
    )


def points(curve: Sequence[Sequence[float]], x: Any, y: Any) -> str:
    """Return a curve as the points of a polyline."""
    return " ".join(f"{x(at_s)},{y(total)}" for at_s, total in curve)


def legend() -> str:
    """Return what the colours mean."""
    said = [
        ('<line x1="{0}" x2="{1}" y1="34" y2="34" class="in"/>', "readings in"),
        ('<line x1="{0}" x2="{1}" y1="34" y2="34" class="out"/>', "readings in closed panes"),
        (f'<line x1="{{2}}" x2="{{2}}" y1="28" y2="40" stroke="{WORKER_COLOR}" stroke-width="2"/>', "worker killed"),
        ('<line x1="{2}" x2="{2}" y1="28" y2="40" stroke="#cc79a7" stroke-width="2"/>', "serve, outbox"),
        ('<line x1="{2}" x2="{2}" y1="28" y2="40" stroke="#d55e00" stroke-width="2"/>', "broker"),
        ('<line x1="{2}" x2="{2}" y1="28" y2="40" stroke="#e69f00" stroke-width="2"/>', "store"),
        ('<circle cx="{2}" cy="34" r="3.5" fill="none" stroke="#666"/>', "other faults"),
    ]
    parts, at = [], LEFT
    for mark, text in said:
        parts.append(mark.format(at, at + 18, at + 9))
        parts.append(f'<text class="small" x="{at + 23}" y="38">{text}</text>')
        at += 42 + round(6.3 * len(text))
    return "".join(parts)


def ticks(most: float, count: int) -> list[float]:
    """Return round numbers from 0 to ``most``.

    >>> ticks(23, 5)
    [0.0, 5.0, 10.0, 15.0, 20.0]
    """
    size = 10 ** len(str(int(most)))
    step = min((s for s in (size * f for f in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)) if most / s <= count), default=size)
    return [step * at for at in range(int(most / step) + 1)]


def measured(results: dict[str, Any]) -> str:
    """Return the measured part of the page, as Markdown."""
    plan, faults = results["plan"], Counter(fault["kind"] for fault in results["happened"])
    refused = ", ".join(f"{count:,} {reason}" for reason, count in results["refused"].items())
    where = (
        f"Measured on {results['date']}, {results['machine']}: seed {plan['seed']}, store {plan['store']},"
        f" {plan['segments']} segments, {plan['detectors']} detectors, {plan['partitions']} partitions,"
        f" {plan['workers']} workers at the start; {plan['city_min']} minutes of the city in"
        f" {plan['feed_s'] / 60:.0f} minutes."
    )
    lines = [
        where,
        "",
        "```",
        last_line(results),
        "```",
        "",
        "![Readings in, readings counted and kills over time](torture.svg)",
        "",
        (
            f"An undisturbed run over the same log opens {results['undisturbed_alerts'][0]} alerts;"
            f" {results['undisturbed_alerts'][1]} of them came here."
        ),
        "",
        "| fault | times |",
        "|---|---:|",
        *(f"| {kind} | {count} |" for kind, count in sorted(faults.items())),
        "",
        f"Refused, each as the reference says: {refused}.",
        "",
        "| check | looked at | result |",
        "|---|---:|---|",
        *(
            f"| {check['name']} | {check['seen']:,} | {'**not so**' if check['wrong'] else 'exact'} |"
            for check in results["checks"]
        ),
    ]
    return "\n".join(lines)


def last_line(results: dict[str, Any]) -> str:
    """Return the line that a run ends with."""
    figures = (results[name] for name in ("kills", "readings", "counted", "alerts"))
    return "kills {}, readings in {}, counted {}, alerts in order {}".format(*figures)


def page(text: str, results: dict[str, Any]) -> str:
    """Return the page with its measured part renewed."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{measured(results)}\n{END}{after}"


def main() -> None:
    """Render the chart and the page."""
    results = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else RESULTS).read_text("utf-8"))
    CHART.write_text(chart(results), "utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8"), results), "utf-8")


if __name__ == "__main__":
    main()
