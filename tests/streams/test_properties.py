"""What must hold however readings are cut into batches and in whatever order they arrive within the lateness."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from citybrain.records import Readings
from citybrain.units import VEH_SCALE
from streams.intervals import Intervals
from streams.sums import Field, additions
from tests.fakes import grid_network
from tests.streams.build import MIN, T0, Driven, Newest, Row, drive, message, readings

NETWORK = grid_network(2, 2)
UNTOLD = {"version", "revision", "status"}
MINUTES = 5
CLOSING_S = 60 * MINUTES + 10


def world_of(seed: int) -> list[tuple[Row, int]]:
    """Return what the detectors see, and by how many seconds each reading is delayed.

    Drawn from a seed, since hypothesis is slow at drawing hundreds of numbers one by one.
    """
    rng = np.random.default_rng(seed)
    found: list[tuple[Row, int]] = []
    for detector in range(len(NETWORK.detectors)):
        at = int(rng.integers(0, 40))
        while at < 60 * MINUTES - 60:
            length = int(rng.choice([20, 30, 45, 60]))
            metrics = {"count_veh": float(rng.integers(0, 20)), "speed_kmh": float(rng.uniform(0, 120))}
            if rng.random() < 0.9:
                found.append(((detector, at, at + length, metrics), int(rng.integers(0, 60))))
            at += length
    return found


worlds = st.integers(0, 2**32).map(world_of)
cuts_lists = st.lists(st.integers(0, 10_000), max_size=12)


def arrival(world: list[tuple[Row, int]], delayed: bool) -> list[Row]:
    return [row for row, _ in sorted(world, key=lambda item: (item[0][2] + item[1] * delayed, item[0][:2]))]


def batches(rows: list[Row], cuts: list[int]) -> list[tuple[int, Readings]]:
    """Cut rows into batches and split each by partition, as the publisher does: the clock is what was sent so far."""
    part = NETWORK.detector_partition
    edges = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})
    found, clock_s = [(p, readings(NETWORK, watermark_s=0, received_s=0)) for p in range(2)], 0
    for begin, end in pairwise(edges):
        clock_s = max([clock_s, *(row[2] for row in rows[begin:end])])
        for p in range(2):
            mine = [row for row in rows[begin:end] if part[row[0]] == p]
            found.append((p, readings(NETWORK, mine, watermark_s=clock_s, received_s=clock_s + 1)))
    closing = readings(NETWORK, watermark_s=CLOSING_S, received_s=CLOSING_S + 1)
    return found + [(p, closing) for p in range(2)]


def same(a: Newest, b: Newest) -> None:
    assert a.states.keys() == b.states.keys()
    assert a.areas.keys() == b.areas.keys()
    pairs: list[tuple[Any, Any]] = [(a.states[k], b.states[k]) for k in a.states]
    pairs += [(a.areas[k], b.areas[k]) for k in a.areas]
    for one, other in pairs:
        for f in fields(one):
            if f.name not in UNTOLD:
                np.testing.assert_array_equal(getattr(one, f.name), getattr(other, f.name), err_msg=f.name)


@settings(max_examples=40, deadline=None)
@given(worlds, cuts_lists, cuts_lists)
def test_any_cut_and_order_of_batches_within_the_lateness_gives_the_same_result(
    world: list[tuple[Row, int]], cuts: list[int], other_cuts: list[int]
) -> None:
    in_order = drive(NETWORK, batches(arrival(world, delayed=False), cuts))
    delayed = drive(NETWORK, batches(arrival(world, delayed=True), other_cuts), flush_every=3)
    assert not in_order.letters
    assert not delayed.letters
    same(in_order, delayed)


@settings(max_examples=25, deadline=None)
@given(worlds, cuts_lists)
def test_readings_sent_twice_change_nothing_but_the_dead_letters(world: list[tuple[Row, int]], cuts: list[int]) -> None:
    rows = arrival(world, delayed=True)
    once, sent = drive(NETWORK, batches(rows, cuts)), batches(rows, cuts)
    twice = drive(NETWORK, [pair for pair in sent for _ in range(2)])
    same(once, twice)
    assert {letter.reason for letter in twice.letters} <= {"duplicate", "late"}
    assert sum(letter.count for letter in twice.letters) == len(rows)


@settings(max_examples=25, deadline=None)
@given(worlds, cuts_lists, st.integers(0, 30))
def test_a_worker_restored_from_any_snapshot_sends_the_same_bytes(
    world: list[tuple[Row, int]], cuts: list[int], at: int
) -> None:
    sent = [batch for partition, batch in batches(arrival(world, delayed=True), cuts) if partition == 0]
    whole, broken = Driven(NETWORK), Driven(NETWORK)
    for nth, batch in enumerate(sent):
        if nth == at % len(sent):
            blob = broken.stage.dump(broken.state)
            broken.state = broken.stage.load(0, blob)
            assert broken.stage.dump(broken.state) == blob
        before = whole.state.watermark_ms
        assert list(whole.results(batch).outputs) == list(broken.results(batch).outputs)
        assert whole.state.watermark_ms >= before
        assert list(whole.stage.flush(whole.state).outputs) == list(broken.stage.flush(broken.state).outputs)


@given(
    st.lists(st.tuples(st.integers(0, 240), st.integers(1, 150), st.floats(0, 3)), min_size=1, max_size=20),
)
def test_the_shares_of_a_reading_add_up_to_it(rows: list[tuple[int, int, float]]) -> None:
    driven = Driven(NETWORK)
    batch = readings(NETWORK, [(0, a, a + length, {"count_veh": count}) for a, length, count in rows])
    driven.results(batch)
    counted = 0
    for share in additions(_clean(driven, batch), driven.stage._rules[0].rosters, MIN):
        counted += int(share.sums[Field.VEHICLES].sum())
    wanted = sum(count for *_, count in rows)
    assert abs(counted / VEH_SCALE - wanted) <= 4e-9 * len(rows) + 1e-12 * wanted


def _clean(driven: Driven, batch: Readings) -> Any:
    from streams.clean import clean

    rows, _ = clean(batch, driven.stage._rules[0], message(batch))
    return rows


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 6)), min_size=1, max_size=8),
        max_size=8,
    )
)
def test_intervals_are_taken_exactly_when_they_overlap_none_taken_before(
    sent: list[list[tuple[int, int, int]]],
) -> None:
    memory = Intervals.none(3)
    taken: list[tuple[int, int, int]] = []
    for batch in sent:
        detector = np.array([row[0] for row in batch], dtype=np.intp)
        begin = np.array([row[1] for row in batch], dtype=np.int64)
        end = begin + np.array([row[2] for row in batch], dtype=np.int64)
        new = memory.take(detector, begin, end, -1)
        for d, a, b, is_new in zip(detector, begin, end, new, strict=True):
            clash = any(d == x and a < z and y < b for x, y, z in taken)
            if is_new:
                assert not clash
                taken.append((int(d), int(a), int(b)))
        # Whatever was refused overlaps something that counts.
        for d, a, b in zip(detector[~new], begin[~new], end[~new], strict=True):
            assert any(d == x and a < z and y < b for x, y, z in taken)


def test_the_start_of_the_tests_is_a_minute() -> None:
    assert T0 % MIN == 0
