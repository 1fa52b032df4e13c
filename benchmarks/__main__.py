"""Run every benchmark of this folder, or those named, and print the figures with the machine.

``python -m benchmarks [--long] [NAME ...]`` measures, writes ``results/latest.json`` and the tables of
``docs/performance.md``; ``--page`` only does the last. Each benchmark runs in a process of its own. One that fails is
told in the table, the others go on, and the exit code is 1; one that lacks something on this machine says what it
lacks. A run of some leaves the rows of the others as they were, each with the machine and day it was measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figure import Figure, Skipped, absent
from benchmarks.rig import demand, page
from benchmarks.rig.machine import load, machine

HERE = Path(__file__).parent
FIRST = (
    "columns", "json_edge", "scale", "segments", "latency", "failover", "recompute", "store", "influx", "aggregate"
)  # fmt: skip
"""In this order; the others after them."""
TIMEOUT_S, LONG_TIMEOUT_S = 1800, 4 * 3600
LONG = " --long"
"""Marks the rows of ``run_long``."""


def names() -> list[str]:
    """Return the benchmark modules: what the issue of speed asks for first, then by alphabet."""
    found = {path.stem for path in HERE.glob("*.py")} - {"__init__", "__main__", "figure"}
    return [name for name in FIRST if name in found] + sorted(found - set(FIRST))


def alone(name: str, out: Path) -> None:
    """Run one benchmark here, and leave its rows in a file."""
    try:
        module = importlib.import_module(f"benchmarks.{name.removesuffix(LONG)}")
        measure = getattr(module, "run_long" if name.endswith(LONG) else "run", None)
        figures: list[Figure] = measure() if measure else []
    except Skipped as why:
        figures = [absent(name, "", f"skipped: {why}")]
    out.write_text(json.dumps([figure.row() for figure in figures]), "utf-8")


def measured(name: str) -> tuple[list[page.Row], bool]:
    """Run one benchmark in a process of its own; return its rows, and whether it went well."""
    began = time.perf_counter()
    when = datetime.now(UTC).isoformat(timespec="seconds")
    stamps = {"machine": machine(), "load": round(load(), 1), "when": when, "commit": _commit()}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks", "--alone", name, "--out", str(out)]
        try:
            code = subprocess.run(
                command, cwd=HERE.parent, timeout=LONG_TIMEOUT_S if name.endswith(LONG) else TIMEOUT_S
            ).returncode
            why = f"exit code {code}"
        except subprocess.TimeoutExpired as error:
            code, why = 1, f"no end within {error.timeout:.0f} s"
        well = code == 0 and out.exists()
        rows = json.loads(out.read_text("utf-8")) if well else [absent(name, "", f"failed: {why}").row()]
    for row in rows:
        print(
            f"{row['name']:74} {page.measured(row):>26}  {page.span(row):19} {page.goal(row):24} {page.beside(row)}",
            flush=True,
        )
    if rows:
        print(f"  ({name}: {time.perf_counter() - began:.0f} s)", flush=True)
    return [{"benchmark": name, **row, **stamps} for row in rows], well


def merged(before: list[page.Row], new: list[page.Row], ran: list[str]) -> list[page.Row]:
    """Return the new rows with those of benchmarks that did not run now, in the order of the benchmarks."""
    order = {name: at for at, name in enumerate(name + part for name in names() for part in ("", LONG))}
    rows = [row for row in before if row.get("benchmark") in order and row["benchmark"] not in ran] + new
    return sorted(rows, key=lambda row: order[row["benchmark"]])


def main(wanted: list[str], *, long: bool) -> int:
    """Run the benchmarks and print a table; returns the exit code."""
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    print(f"{machine()}, load {load():.1f}")
    ran = [name + part for name in wanted or names() for part in (("", LONG) if long else ("",))]
    good = True
    for name in ran:
        rows, well = measured(name)
        good &= well
        page.keep(merged(page.latest(), rows, [name]))
    page.renew()
    demand.renew()
    print(f"written to {page.LATEST.relative_to(HERE.parent)} and {page.PAGE.relative_to(HERE.parent)}")
    return 0 if good else 1


def _commit() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and memory beside peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all without one")
    parser.add_argument("--long", action="store_true", help="also what takes many minutes")
    parser.add_argument("--page", action="store_true", help="only renew docs/performance.md from what was measured")
    parser.add_argument("--alone", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    said = _arguments()
    if said.alone:
        alone(said.alone, said.out)
    elif said.page:
        page.renew()
        demand.renew()
    else:
        sys.exit(main(said.names, long=said.long))
