"""Run every benchmark of this folder, or those named, and print the figures with the machine.

``python -m benchmarks [NAME ...]``; results go to ``benchmarks/results/latest.json`` too.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.figure import Figure

HERE = Path(__file__).parent


def names() -> list[str]:
    """Return the benchmark modules, in alphabetical order."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in {"__init__", "__main__", "figure"})


def machine() -> str:
    """Return what the figures were measured on, in one line."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def main(wanted: list[str]) -> int:
    """Run the benchmarks and print a table; returns the exit code."""
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    print(machine())
    print(f"{'figure':58} {'value':>12} {'unit':12} {'to reach':18} beside")
    rows: list[dict[str, object]] = []
    for name in wanted or names():
        began = time.perf_counter()
        figures: list[Figure] = importlib.import_module(f"benchmarks.{name}").run()
        for figure in figures:
            print(
                f"{figure.name:58} {figure.value:12,.4g} {figure.unit:12} {figure.reach:18} {figure.peer}", flush=True
            )
            rows.append({"benchmark": name, **asdict(figure)})
        print(f"  ({name}: {time.perf_counter() - began:.0f} s)", flush=True)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "latest.json").write_text(json.dumps({"machine": machine(), "figures": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
