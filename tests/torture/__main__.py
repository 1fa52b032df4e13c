"""``python -m tests.torture --kills 100 --seed 1``: break everything at random, and say whether all is exact.

It ends with ``kills K, readings in N, counted N, alerts in order M`` and exit code 0 only if every check holds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.judge import judge
from tests.torture.mutants import MUTANTS
from tests.torture.plan import Plan
from tests.torture.report import write_results
from tests.torture.run import torture


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="processes killed by signal 9 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of every draw (default: the time)")
    parser.add_argument("--minutes", type=float, help="of the wall clock that the feed lasts (default: 7 s a fault)")
    parser.add_argument("--speed", type=float, default=30.0, help="of the feed's clock (default: %(default)s)")
    parser.add_argument("--store", choices=("duckdb", "influxdb"), default="duckdb")
    parser.add_argument("--away", type=float, default=600.0, help="s that InfluxDB is away (default: %(default)s)")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="", help="patch one behaviour: must be caught")
    parser.add_argument("--short-sessions", action="store_true", help="take over within 2 s, as the embedded broker")
    parser.add_argument("--keep", type=Path, help="leave logs and data in this new folder")
    parser.add_argument("--results", type=Path, help="write figures and curves to this JSON file")
    return parser.parse_args(words)


def plan_of(said: argparse.Namespace) -> Plan:
    """Return the run that the command line asks for; a long feed gets a slower clock, to stay within one day."""
    plan = Plan(
        kills=said.kills,
        seed=said.seed,
        store=said.store,
        minutes=said.minutes,
        speed=said.speed,
        away_s=said.away,
        mutant=said.mutant,
        production=not said.short_sessions,
    )
    return plan.within_a_day()


def main() -> int:
    """Run, judge, and say so."""
    said = arguments()
    plan = plan_of(said)
    print(f"seed {plan.seed}, {plan.kills} kills, {plan.store}, {plan.feed_s:.0f} s", flush=True)
    if said.keep:
        said.keep.mkdir(parents=True)
        evidence = torture(plan, said.keep)
    else:
        with tempfile.TemporaryDirectory(prefix="citybrain-torture-", ignore_cleanup_errors=True) as folder:
            evidence = torture(plan, Path(folder))
            verdict = judge(evidence)
    if said.keep:
        verdict = judge(evidence)
    for each in evidence.happened:
        print(f"{each.at_s:7.1f} s  {each.kind}: {each.note}")
    for check in verdict.checks:
        print(check)
    print("alerts of an undisturbed run: {}, of which {} came here".format(*verdict.undisturbed))
    if said.results:
        write_results(said.results, evidence, verdict)
    print("all exact" if verdict.exact else "NOT EXACT")
    print(verdict.last_line(), flush=True)
    return 0 if verdict.exact else 1


if __name__ == "__main__":
    sys.exit(main())
