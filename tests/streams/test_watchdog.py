"""The watchdog: what is stuck is told, and what waits on purpose, works or has nothing to do is left alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streams.progress import Look, Phase, lag
from streams.watchdog import Watchdog

PLACE = ("citybrain.readings", 3)
OTHER = ("citybrain.readings", 4)


def look(
    position: int | None, *, phase: Phase = "working", generation: int = 1, waits_for: str = "", other: int = 0
) -> Look:
    return Look(
        "aggregate", phase, 0.0, generation=generation, positions={PLACE: position, OTHER: other}, waits_for=waits_for
    )


def said(
    looks: Iterator[Look] | list[Look], *, behind: int = 5, each_s: float = 5.0, watchdog: Watchdog | None = None
) -> list[str]:
    dog = watchdog or Watchdog(stuck_s=30, patient_s=300)
    return [dog.look(each_s, [one], {"aggregate": {PLACE: behind, OTHER: 0}}) for one in looks]


def test_messages_that_wait_for_half_a_minute_without_one_applied_are_told_with_their_place() -> None:
    told = said([look(7)] * 8)
    assert told[:6] == [""] * 6
    assert told[6] == (
        "stage aggregate is stuck (working): 5 messages wait in citybrain.readings, partition 3,"
        " and none was applied for 30 s"
    )


def test_a_partition_that_was_never_begun_counts_too() -> None:
    assert said([look(None)] * 8)[-1] != ""


def test_one_partition_is_stuck_though_another_goes_on() -> None:
    assert said([look(7, other=n) for n in range(8)])[-1] != ""


def test_one_message_applied_begins_the_count_anew() -> None:
    assert set(said([*[look(7)] * 6, look(8), *[look(8)] * 5])) == {""}


def test_a_stage_without_anything_to_do_is_not_stuck() -> None:
    assert set(said([look(7)] * 20, behind=0)) == {""}


@pytest.mark.parametrize(
    "waiting",
    [
        look(7, waits_for="the store does not answer"),
        look(7, phase="restoring"),
        look(7, phase="crashed"),
        look(7, phase="saving"),
        look(7, phase="rebalancing"),
    ],
)
def test_what_waits_on_purpose_is_not_stuck(waiting: Look) -> None:
    assert set(said([waiting] * 50)) == {""}


@pytest.mark.parametrize("phase", ["saving", "rebalancing"])
def test_but_what_should_end_by_itself_must_end_within_minutes(phase: Phase) -> None:
    told = said([look(7, phase=phase)] * 62)
    assert told[59] == ""
    assert told[61].startswith(f"stage aggregate is stuck ({phase})")


def test_a_rebalance_begins_the_count_anew() -> None:
    assert set(said([look(7, generation=n // 6) for n in range(30)])) == {""}


def test_after_an_outage_of_the_broker_the_count_begins_anew() -> None:
    dog = Watchdog(stuck_s=30)
    assert set(said([look(7)] * 6, watchdog=dog)) == {""}
    dog.forget()
    assert set(said([look(7)] * 6, watchdog=dog)) == {""}
    assert said([look(7)], watchdog=dog) != [""]


def test_lag_counts_from_where_the_group_stands_before_the_first_message() -> None:
    one = look(None, other=4)
    assert lag(one, {PLACE: 10, OTHER: 4}, {PLACE: 8}) == {PLACE: 2, OTHER: 0}
    assert lag(one, {PLACE: 10}, {}) == {PLACE: 10}
    # The end was read before the last message was applied.
    assert lag(look(12), {PLACE: 10}, {}) == {PLACE: 0}
