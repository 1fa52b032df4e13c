"""Which panes a stage with memory takes: the first close of each, once, in order, of its own network."""

from __future__ import annotations

from citybrain.errors import BadRecord
from citybrain.records import SegmentStates

MOST_PANES = 1440
"""Panes kept where partitions are put together; beyond, the oldest is told without who keeps it waiting."""


def is_next(states: SegmentStates, newest_ms: int) -> bool:
    """Return True for a first close that is newer than ``newest_ms``, the start of the pane taken last.

    Revisions are cut by checkpoints and differ between runs: nothing that accumulates may take them.
    """
    return states.revision == 0 and states.pane_start_ms > newest_ms


def require_network(seen: str, allowed: str) -> None:
    """Raise `BadRecord` ``network_version`` if a record belongs to another network."""
    if seen != allowed:
        raise BadRecord("network_version", f"network {seen} seen, {allowed} allowed")
