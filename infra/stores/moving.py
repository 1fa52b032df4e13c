"""Moving a period from one store to another: two stores in, counts and differences out.

Each stretch is written and then read back from both: nothing counts as moved that was not compared value by value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import numpy as np

from citybrain.network import Network
from citybrain.records import AreaIndices, Forecasts, SegmentStates, encode
from citybrain.units import MS_PER_H
from infra.stores.newest import bin_length_ms
from infra.stores.protocol import Batch, Store

ROWS_A_STRETCH = 300_000
"""Rows of segments that are in memory at a time, twice."""
TOLD = 20
"""Differences that are told; the others are counted."""


@dataclass(slots=True)
class Moved:
    """What was moved, and what is not the same in both stores afterwards."""

    state_panes: int = 0
    area_panes: int = 0
    bin_rows: int = 0
    forecasts: int = 0
    values: int = 0
    differences: int = 0
    told: list[str] = field(default_factory=list)

    def differ(self, what: str) -> None:
        """Note a difference."""
        self.differences += 1
        if len(self.told) < TOLD:
            self.told.append(what)


def stretches(network: Network, pane_ms: int, from_ms: int, to_ms: int) -> list[tuple[int, int]]:
    """Cut a period, widened to whole bins, into stretches of an hour, or less in a large city."""
    bin_ms = bin_length_ms(pane_ms)
    bins = max(1, ROWS_A_STRETCH // max(len(network.segments), 1) * pane_ms // bin_ms)
    step = min(round(MS_PER_H), bins * bin_ms)
    first, end = from_ms // bin_ms * bin_ms, -(-to_ms // bin_ms) * bin_ms
    return [(start, min(start + step, end)) for start in range(first, end, step)]


def move(source: Store, target: Store, periods: list[tuple[int, int]], moved: Moved) -> Iterator[tuple[int, int]]:
    """Copy stretch after stretch and compare; yields each that is done.

    Raises
    ------
    StoreError
        If a store fails, or refuses the rows: what was yielded is moved.
    """
    for from_ms, to_ms in periods:
        records = source.records(from_ms, to_ms)
        target.write(records)
        bins = source.bins(from_ms, to_ms)
        if len(bins):  # as they are: the panes of old ones are gone
            target.write_bins(bins)
        _compare(records, source, target, (from_ms, to_ms), moved)
        yield from_ms, to_ms


def _compare(given: Batch, source: Store, target: Store, span: tuple[int, int], moved: Moved) -> None:
    found = target.records(*span)
    moved.state_panes += len(given.states)
    moved.area_panes += len(given.areas)
    moved.forecasts += len(given.forecasts)
    _compare_panes(given.states, found.states, moved)
    _compare_panes(given.areas, found.areas, moved)
    newest = {forecast.partition: forecast for forecast in target.latest_forecasts()}
    for forecast in given.forecasts:
        there = newest.get(forecast.partition)
        moved.values += _values(forecast)
        if there is None or there.pane_start_ms < forecast.pane_start_ms:
            moved.differ(f"forecast of partition {forecast.partition} is missing")
        elif there.pane_start_ms == forecast.pane_start_ms and encode(there) != encode(forecast):
            moved.differ(f"forecast of partition {forecast.partition} is another one")
    _compare_bins(source, target, span, moved)


def _compare_panes(
    given: list[SegmentStates] | list[AreaIndices], found: list[SegmentStates] | list[AreaIndices], moved: Moved
) -> None:
    there = {_place(record): record for record in found}
    for record in given:
        other = there.pop(_place(record), None)
        moved.values += _values(record)
        if other is None:
            moved.differ(f"{_named(record)} is missing")
        elif encode(record) != encode(other):
            moved.differ(f"{_named(record)}: {_first_difference(record, other)}")
    for record in there.values():
        moved.differ(f"{_named(record)} is only in the store that was copied to")


def _compare_bins(source: Store, target: Store, span: tuple[int, int], moved: Moved) -> None:
    given, found = source.bins(*span), target.bins(*span)
    moved.bin_rows += len(given)
    moved.values += int(given.size)
    places = [list(zip(frame["time_start_ms"], frame["segment"], strict=True)) for frame in (given, found)]
    if places[0] != places[1]:
        moved.differ(f"roll-ups from {span[0]}: {len(places[0])} rows in one store, {len(places[1])} in the other")
        return
    for name in given.columns:
        unlike = int((given[name].to_numpy() != found[name].to_numpy()).sum())
        if unlike:
            moved.differ(f"roll-ups from {span[0]}: {name} differs in {unlike} of {len(given)} rows")


def _place(record: SegmentStates | AreaIndices) -> tuple[int, int]:
    return getattr(record, "partition", -1), record.pane_start_ms


def _named(record: SegmentStates | AreaIndices) -> str:
    of = "areas" if isinstance(record, AreaIndices) else f"partition {record.partition}"
    return f"pane {record.pane_start_ms} of {of}"


def _values(record: SegmentStates | AreaIndices | Forecasts) -> int:
    arrays = (getattr(record, f.name) for f in fields(record))
    return sum(array.size for array in arrays if isinstance(array, np.ndarray))


def _first_difference(record: SegmentStates | AreaIndices, other: SegmentStates | AreaIndices) -> str:
    for f in fields(record):
        one, two = getattr(record, f.name), getattr(other, f.name)
        if not isinstance(one, np.ndarray):
            if one != two:
                return f"{f.name} {one!r} in one store, {two!r} in the other"
        elif one.shape != two.shape or not np.array_equal(one, two, equal_nan=one.dtype.kind == "f"):
            return f"{f.name} differs"
    return "written differently"
