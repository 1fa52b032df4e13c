from __future__ import annotations

import pandas as pd
import pytest

from simulators.judgement.health import OPEN_MS, Spell, Verdicts, judge_health

MIN = 60_000
NOON = 1_790_000_000_000 // MIN * MIN
SPAN = NOON, NOON + 240 * MIN


def faults(*rows: tuple[int, str, int, int]) -> pd.DataFrame:
    """Return faults: detector, kind, onset and end in minutes after noon."""
    columns = ["detector", "kind", "onset_ms", "end_ms"]
    frame = pd.DataFrame(list(rows), columns=columns)
    return frame.assign(onset_ms=NOON + frame.onset_ms * MIN, end_ms=NOON + frame.end_ms * MIN)


def spell(detector: int, verdict: str, begin: int, end: int = 240) -> Spell:
    return Spell(detector, verdict, NOON + begin * MIN, NOON + end * MIN)


def test_a_fault_is_found_by_the_first_verdict_while_it_lasts() -> None:
    found = judge_health(faults((3, "stuck", 30, 120)), [spell(3, "stuck", 42), spell(3, "locked", 60)], SPAN, 10)
    [kind] = found.kinds
    assert (kind.kind, kind.faults, kind.minutes, kind.verdicts) == ("stuck", 1, (12.0,), {"stuck": 1})
    assert (found.wrong, found.doubted, found.well) == ((), 1, 9)


def test_a_fault_that_was_there_before_counts_from_the_begin_of_the_run() -> None:
    found = judge_health(faults((3, "silent", -600, 600)), [spell(3, "silent", 4)], SPAN, 10)
    assert found.kinds[0].minutes == (4.0,)


@pytest.mark.parametrize(
    ("begin", "end", "why"), [(0, 20, "before it"), (130, 200, "after it"), (240, 250, "after the run")]
)
def test_a_verdict_at_another_time_finds_nothing(begin: int, end: int, why: str) -> None:
    found = judge_health(faults((3, "stuck", 30, 120)), [spell(3, "stuck", begin, end)], SPAN, 10)
    assert found.kinds[0].minutes == (), why


def test_a_verdict_on_a_detector_without_a_fault_is_wrong_and_one_shortly_after_is_not() -> None:
    said = [spell(4, "locked", 60, 90), spell(3, "stuck", 150, 160), spell(3, "stuck", 185, 200)]
    found = judge_health(faults((3, "stuck", 30, 120)), said, SPAN, 10)
    assert found.wrong == (said[0], said[2])
    assert (found.wrongly_doubted, found.wrong_h) == (2, 0.75)


def test_faults_outside_of_the_run_are_none() -> None:
    found = judge_health(faults((3, "stuck", -30, 0), (4, "stuck", 240, 300)), [], SPAN, 10)
    assert (found.kinds, found.well) == ((), 10)


def test_what_is_told_anew_makes_spells() -> None:
    verdicts = Verdicts()
    verdicts.take(0, 10, {1: "stuck", 2: "silent"})
    verdicts.take(1, 12, {7: "silent"})
    verdicts.take(0, 20, {1: "stuck", 2: "locked"})
    verdicts.take(0, 30, {2: "locked"})
    assert verdicts.spells() == [
        Spell(1, "stuck", 10, 30),
        Spell(2, "silent", 10, 20),
        Spell(7, "silent", 12, OPEN_MS),
        Spell(2, "locked", 20, OPEN_MS),
    ]
