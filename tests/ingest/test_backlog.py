from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest.backlog import AHEAD_MS, LAST, STALL_S, Backlog, Chunk

MIN_MS = 60_000


def chunk(*read: tuple[int, int]) -> Chunk:
    """Return messages by partition and minute; each is its own name."""
    partition, minute = (np.array([each[at] for each in read], dtype=np.int64) for at in (0, 1))
    return Chunk(list(read), partition, minute * MIN_MS)


def names(found: Chunk) -> list[Any]:
    assert len(found.messages) == len(found.partition) == len(found.record_ms)
    return found.messages


def test_without_a_backlog_all_goes_on_at_once() -> None:
    backlog = Backlog(0.0)
    assert names(backlog.due(chunk((0, 50), (1, 0), (0, 90)), [], 1.0)) == [(0, 50), (1, 0), (0, 90)]
    assert not backlog.kept
    assert not backlog.ahead


def test_what_is_ahead_of_a_partition_that_holds_more_is_kept_until_that_has_come_as_far() -> None:
    backlog = Backlog(0.0)
    read = chunk((0, 10), *[(0, 40)] * LAST, (1, 10), (1, 11))
    assert names(backlog.due(read, [1], 1.0)) == [(0, 10), (1, 10), (1, 11)]
    assert backlog.kept == {0}
    assert backlog.ahead == {0}, "it is not read on"
    assert names(backlog.due(chunk(*[(1, 39)] * LAST), [1], 2.0)) == [(0, 40)] * LAST + [(1, 39)] * LAST
    assert not backlog.kept
    assert not backlog.ahead


def test_a_partition_of_which_nothing_was_read_yet_is_waited_for() -> None:
    backlog = Backlog(0.0)
    assert names(backlog.due(chunk((0, 10)), [0, 1], 0.1)) == []
    assert names(backlog.due(chunk((1, 12)), [0], 0.2)) == [(0, 10), (1, 12)]


def test_a_partition_that_holds_more_and_tells_nothing_is_not_waited_for_without_end() -> None:
    backlog = Backlog(0.0)
    assert names(backlog.due(chunk((0, 10)), [1], 0.5)) == []
    for second in range(1, int(STALL_S)):
        assert names(backlog.due(Chunk.empty(), [1], float(second))) == []
    assert backlog.waited_for([1]) == [1]
    assert names(backlog.due(Chunk.empty(), [1], STALL_S)) == [(0, 10)]
    assert backlog.waited_for([1]) == []
    backlog.due(chunk((1, 0), (0, 11)), [1], STALL_S + 1)
    assert backlog.kept == {0}, "from when it is heard again it counts"


def test_while_nobody_looked_nobody_was_silent() -> None:
    # What was read before took half a minute to send: the broker was away.
    backlog = Backlog(0.0)
    backlog.due(chunk((0, 10), (1, 0)), [0, 1], 1.0)
    assert names(backlog.due(chunk((0, 40)), [1], 1.0 + 3 * STALL_S)) == []


def test_a_partition_that_was_held_back_is_waited_for_when_it_goes_on() -> None:
    backlog = Backlog(0.0)
    for second in range(int(3 * STALL_S)):  # partition 0 waits all the while
        backlog.due(
            chunk((0, 40), (1, second // 10)) if not second else chunk((1, second // 10)), [0, 1], float(second)
        )
    assert backlog.ahead == {0}
    now_s = 3 * STALL_S
    backlog.due(chunk(*[(1, 40)] * LAST), [0, 1], now_s)
    assert backlog.ahead == set()
    assert names(backlog.due(chunk((1, 70)), [0], now_s + STALL_S / 2)) == []


def test_the_fast_clock_of_one_sender_holds_nothing_up() -> None:
    backlog = Backlog(0.0)
    mixed = chunk(*[(0, 10)] * LAST, (0, 600), (1, 10))
    assert len(names(backlog.due(mixed, [0, 1], 1.0))) == LAST + 1, "all but the last word of partition 0"
    assert backlog.kept == {0}
    assert backlog.ahead == set()
    assert names(backlog.due(chunk((0, 11)), [0, 1], 2.0)) == [(0, 600), (0, 11)]


Reads = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=12), st.sets(st.integers(0, 3), max_size=3)
    ),
    max_size=12,
)


@given(Reads)
def test_nothing_is_lost_nor_leaves_its_order_and_no_partition_runs_away(
    reads: list[tuple[list[tuple[int, int]], set[int]]],
) -> None:
    """Times grow within a partition; ``behind`` is anything."""
    backlog, minute = Backlog(0.0), dict.fromkeys(range(4), 0)
    told: list[tuple[int, int]] = []
    sent: list[tuple[int, int]] = []
    for steps, behind in reads:
        read = []
        for partition, step in steps:
            minute[partition] += step
            read.append((partition, minute[partition]))
        sent += read
        due = names(backlog.due(chunk(*read) if read else Chunk.empty(), behind, 1.0))
        told += due
        heard = {partition for partition, _ in sent}
        if behind:
            # Where a partition is told to be is never beyond where it was read to.
            least = min(minute[partition] if partition in heard else -(2**40) for partition in behind)
            assert all(each[1] * MIN_MS <= least * MIN_MS + AHEAD_MS for each in due)
    told += names(backlog.due(Chunk.empty(), [], 1.0))
    for partition in range(4):
        assert [each for each in told if each[0] == partition] == [each for each in sent if each[0] == partition]
