"""The suite itself, short: six kills and all is exact; and three broken programs, each of which it finds out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.broker import jars_folder
from tests.infra.influx import influxd_path
from tests.torture.faults import GENTLE, KILLS, schedule
from tests.torture.judge import Verdict, judge
from tests.torture.plan import Plan, StoreKind
from tests.torture.run import torture

__all__ = ["jars_folder"]

kafka = [pytest.mark.broker, pytest.mark.xdist_group("broker")]

SEGMENTS = "sums of every segment and pane in the store"
AREAS = "indices of every area and pane in the store"
LETTERS = "dead letters by message and reason"
ARCHIVE = "raw messages in the archive"


def told(verdict: Verdict) -> str:
    return "\n".join(map(str, verdict.checks))


def test_a_long_run_has_every_fault_and_as_many_kills_as_asked_for() -> None:
    faults = schedule(Plan(kills=100, seed=3, store="influxdb"))
    seen = Counter(fault.kind for fault in faults)
    assert set(seen) == {*KILLS, *GENTLE}
    assert sum(seen[kind] for kind in KILLS) == 100
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)


def test_the_same_seed_draws_the_same_faults_and_another_one_others() -> None:
    assert schedule(Plan(kills=20, seed=3)) == schedule(Plan(kills=20, seed=3))
    assert schedule(Plan(kills=20, seed=3)) != schedule(Plan(kills=20, seed=4))


class TestOnKafka:
    pytestmark = kafka

    def test_six_kills_and_all_that_can_go_wrong_leave_everything_exact(
        self, tmp_path: Path, jars_folder: Path
    ) -> None:
        # InfluxDB where it is, away for a minute; DuckDB is what the broken programs below write to.
        store: StoreKind = "influxdb" if influxd_path() else "duckdb"
        plan = Plan(kills=6, seed=20, store=store, minutes=1.25, away_s=60.0, production=False)
        verdict = judge(torture(plan, tmp_path, jars=jars_folder))
        assert verdict.exact, told(verdict)
        assert verdict.kills == 6
        assert verdict.readings == verdict.counted > 20_000
        assert verdict.alerts > 3

    @pytest.mark.parametrize(
        ("mutant", "kills", "caught_by", "not_by"),
        [
            # What was acknowledged before it was durable is lost with the worker. Stages with a state read it again,
            # since their snapshots tell where they stand (those that had one); the archive has none.
            ("ack-before-snapshot", 1, {ARCHIVE}, set()),
            # A repeat is taken for new: its readings are still told apart by their intervals, and refused wrongly.
            ("no-repeat-check", 1, {LETTERS}, set()),
            # A revision comes on top of what it revises; no kill is needed.
            ("adding-rollup", 0, {AREAS}, {SEGMENTS, LETTERS}),
        ],
    )
    def test_a_broken_program_is_found_out(
        self, mutant: str, kills: int, caught_by: set[str], not_by: set[str], tmp_path: Path, jars_folder: Path
    ) -> None:
        plan = Plan(
            kills=kills, seed=7, mutant=mutant, only=("all-workers",), gentle=False, production=False,
            checkpoint_s=4.0, minutes=0.35, columns=5, rows=4, partitions=4,
        )  # fmt: skip
        verdict = judge(torture(plan, tmp_path, jars=jars_folder))
        assert caught_by <= verdict.failed(), told(verdict)
        assert not not_by & verdict.failed(), told(verdict)
