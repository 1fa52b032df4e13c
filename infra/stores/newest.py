"""What of a batch is written: records in, the newest version of each out; what belongs elsewhere is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from citybrain.errors import StoreRefused
from citybrain.network import IntArray, Network
from citybrain.records import AreaIndices, Forecasts, SegmentStates
from infra.stores.protocol import Batch

R = TypeVar("R", SegmentStates, AreaIndices, Forecasts)
MS_PER_MIN = 60_000


def refuse_foreign(batch: Batch, network: Network, pane_ms: int) -> None:
    """Refuse a batch with a record of another network, another length of panes, or rows that are not there.

    Raises
    ------
    StoreRefused
        If there is one; nothing of the batch may be written.
    """
    segments, areas = len(network.segments), len(network.areas)
    for state in batch.states:
        _refuse(state, state.segment, segments, network, pane_ms)
    for area in batch.areas:
        _refuse(area, area.area, areas, network, pane_ms)
    for forecast in batch.forecasts:
        _refuse(forecast, forecast.segment, segments, network, pane_ms)


def _refuse(
    record: SegmentStates | AreaIndices | Forecasts, rows: IntArray, limit: int, network: Network, pane_ms: int
) -> None:
    if record.network != network.version:
        raise StoreRefused(f"network {record.network!r} seen, {network.version!r} allowed")
    if record.pane_ms != pane_ms or record.pane_start_ms % pane_ms:
        raise StoreRefused(
            f"pane of {record.pane_ms} ms at {record.pane_start_ms} seen, multiples of {pane_ms} allowed"
        )
    if len(rows) and (rows.min() < 0 or rows.max() >= limit):
        raise StoreRefused(f"rows {rows.min()} to {rows.max()} seen, 0 to {limit - 1} allowed")


def refuse_deleted(batch: Batch, states_from_ms: int) -> None:
    """Refuse live states that are older than what is kept: their bins could not be made again.

    Raises
    ------
    StoreRefused
        If there are any.
    """
    oldest = min((state.pane_start_ms for state in batch.states), default=states_from_ms)
    if oldest < states_from_ms:
        raise StoreRefused(
            f"pane at {oldest} seen, from {states_from_ms} on allowed: older states are deleted (retention)"
        )


def bin_length_ms(pane_ms: int) -> int:
    """Return the length of the rolled-up bins: five minutes, or the next longer that whole panes fill.

    Examples
    --------
    >>> bin_length_ms(60_000), bin_length_ms(120_000), bin_length_ms(900_000)
    (300000, 360000, 900000)
    """
    return next(
        pane_ms * count
        for count in range(1, 3601)
        if pane_ms * count >= 5 * MS_PER_MIN and 60 * MS_PER_MIN % (pane_ms * count) == 0
    )


def newest_of(records: list[R], key: Callable[[R], tuple[int, int]]) -> list[R]:
    """Return the newest version of each key, in the order of time."""
    newest: dict[tuple[int, int], R] = {}
    for record in records:
        known = newest.get(key(record))
        if known is None or record.version > known.version:
            newest[key(record)] = record
    return sorted(newest.values(), key=lambda record: (record.pane_start_ms, key(record)))


def newest_forecasts(records: list[Forecasts]) -> list[Forecasts]:
    """Return the newest forecast of each partition."""
    newest: dict[int, Forecasts] = {}
    for record in sorted(records, key=lambda record: (record.pane_start_ms, record.version)):
        newest[record.partition] = record
    return [newest[partition] for partition in sorted(newest)]
