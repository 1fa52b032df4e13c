"""One hour of the demo city in City Brain's engine, UXsim's C++ engine and SUMO's mesoscopic mode, side by side.

The same links and trips (`benchmarks.cases.cityhour`), each engine in a process of its own, one after the other, on one
core. Measured is the hour with all routes, not the making of the network; engines are compared by processor time, which
others on the machine lengthen less than wall time. `run_long` compares the flows of all links, with ways that drivers
renew and with ways that are fixed, so that what differs has a name. UXsim and SUMO are the extra ``citybrain[peers]``,
here or in ``benchmarks/.peers``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.cases.cityhour import HOUR_S, write
from benchmarks.figure import Figure, Skipped, absent, repeated
from benchmarks.peers.engines import PYTHONS

ROOT = Path(__file__).resolve().parent.parent
FULL, MODERATE, LIGHT = 30_000, 12_000, 3_000
WITHIN_S = 1500
GEH_MOST = 5.0
REPEATED = 3
UXSIM_WAVE_MS = 1.0 / 0.143
"""Speed of waves in UXsim: a reaction time of 1 s at the jam density of the case, on every link."""
HOW = "pip install 'citybrain[peers]', or the same packages in benchmarks/.peers"

Flows = npt.NDArray[np.float64]
Hour = tuple[dict[str, Any], Flows]


def python_with(*modules: str) -> Path | None:
    """Return an interpreter that can import all modules: this one, or that of the peers."""
    for python in (Path(sys.executable), *PYTHONS):
        if python.exists():
            code = f"import {', '.join(modules)}"
            if not subprocess.run([python, "-c", code], capture_output=True, check=False).returncode:
                return python
    return None


def hour(module: str, case: Path, *more: str, python: Path | None = None) -> Hour:
    """Run the hour of a case in one engine; return what it told and the flows of all links."""
    flows = case.with_suffix(".npy")
    command = [python or sys.executable, "-m", f"benchmarks.peers.{module}", case, flows, *more]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S)
    if done.returncode:
        raise RuntimeError(f"{module}: {done.stderr[-500:]}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    return json.loads(line), np.load(flows)


def agreement(ours: Flows, theirs: Flows) -> tuple[float, float]:
    """Return the correlation of hourly link flows and the share with GEH below 5, over links that either uses.

    Examples
    --------
    >>> correlation, share = agreement(np.array([100.0, 200.0, 0.0, 0.0]), np.array([100.0, 300.0, 10.0, 0.0]))
    >>> round(correlation, 3), round(share, 3)
    (0.977, 0.667)
    """
    used = (ours > 0) | (theirs > 0)
    a, b = ours[used], theirs[used]
    geh = np.sqrt(2.0 * (a - b) ** 2 / (a + b))
    return float(np.corrcoef(a, b)[0, 1]), float((geh < GEH_MOST).mean())


def difference(ours: Flows, theirs: Flows) -> float:
    """Return the sum of the differences of all link flows as a share of all our flows."""
    return float(np.abs(ours - theirs).sum() / ours.sum())


def run() -> list[Figure]:
    """Measure the full hour in each engine that is there."""
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder) / "full.npz"
        write(case, FULL)
        return _speeds(case, f"an hour of the demo city, {FULL:,} trips", goals=(5, 15))


def run_long() -> list[Figure]:
    """Measure the full hour with fixed ways, and compare link flows with those of UXsim and SUMO."""
    uxsim, sumo = python_with("uxsim"), python_with("libsumo", "sumolib")
    if uxsim is None or sumo is None:
        raise Skipped(f"UXsim and SUMO are not both installed: {HOW}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {trips: folder / f"{trips}.npz" for trips in (LIGHT, MODERATE, FULL)}
        for trips, case in cases.items():
            write(case, trips)
        figures = _speeds(cases[FULL], f"the same hour with fixed ways, {FULL:,} trips", "--fixed", goals=(None, None))
        for trips in (LIGHT, MODERATE):
            ours, theirs = hour("own_hour", cases[trips]), hour("uxsim_hour", cases[trips], python=uxsim)
            figures += _agreement(f"{trips:,} trips, ways renewed, against UXsim", ours, theirs)
            other = hour("sumo_hour", cases[trips], python=sumo)
            figures += _agreement(f"{trips:,} trips, ways renewed, against SUMO", ours, other)
        again = hour("uxsim_hour", cases[MODERATE], "--seed", "2", python=uxsim)
        figures += _agreement(
            f"{MODERATE:,} trips, ways renewed, UXsim against itself with another seed", theirs, again
        )
        for trips in (MODERATE, FULL):
            fixed = hour("uxsim_hour", cases[trips], "--fixed", python=uxsim)
            ours = hour("own_hour", cases[trips], "--fixed")
            figures += _agreement(f"{trips:,} trips, fixed ways, against UXsim", ours, fixed)
            if trips == MODERATE:
                other = hour("sumo_hour", cases[trips], "--fixed", python=sumo)
                figures += _agreement(f"{trips:,} trips, fixed ways, against SUMO", ours, other)
        ours = hour("own_hour", cases[FULL], "--fixed", "--wave", f"{UXSIM_WAVE_MS:.3f}")
        figures += _agreement(f"{FULL:,} trips, fixed ways and UXsim's wave speed, against UXsim", ours, fixed)
        return figures


def _speeds(case: Path, words: str, *more: str, goals: tuple[float | None, float | None]) -> list[Figure]:
    uxsim, sumo = python_with("uxsim"), python_with("libsumo", "sumolib")
    if uxsim is None and sumo is None:
        raise Skipped(f"neither UXsim nor SUMO is installed: {HOW}")
    runs = [hour("own_hour", case, *more)[0] for _ in range(REPEATED)]
    cpu_s = median(told["cpu_s"] for told in runs)
    figures = [
        repeated(
            words, [HOUR_S / told["wall_s"] for told in runs], "x real time", cpu_s=cpu_s,
            wall_s=median(told["wall_s"] for told in runs),
            note=f"{runs[0]['rss_mb']:.0f} MB, {runs[0]['arrived']:,} arrived",
        )
    ]  # fmt: skip
    for name, module, python, goal in (
        ("UXsim's C++ engine", "uxsim_hour", uxsim, goals[0]),
        ("SUMO's mesoscopic mode", "sumo_hour", sumo, goals[1]),
    ):
        figure = f"{words}: processor time of {name}"
        if python is None:
            figures.append(absent(figure, "times ours", f"skipped: {HOW}"))
            continue
        told, _ = hour(module, case, *more, python=python)
        note = (
            f"{told['cpu_s']:.1f} CPU s against {cpu_s:.2f}, wall {told['wall_s']:.0f} s, {told['rss_mb']:.0f} MB, "
            f"{told['arrived']:,} arrived"
        )
        figures.append(Figure(figure, told["cpu_s"] / cpu_s, "times ours", at_least=goal, note=note))
    return figures


def _agreement(words: str, one: Hour, other: Hour) -> list[Figure]:
    correlation, share = agreement(one[1], other[1])
    note = (
        f"flows differ by {difference(one[1], other[1]):.1%} of all, vehicles over all links "
        f"{other[1].sum() / one[1].sum():.2f} times, arrived {other[0]['arrived']:,} against {one[0]['arrived']:,}, "
        f"processor time {other[0]['cpu_s']:.1f} s against {one[0]['cpu_s']:.2f} s"
    )
    return [
        Figure(f"link flows, {words}: correlation", correlation, "", note=note),
        Figure(f"link flows, {words}: share of links with GEH below 5", share, ""),
    ]
