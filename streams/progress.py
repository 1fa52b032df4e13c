"""Progress: what one stage says of itself at an instant. The harness writes it; health, metrics, watchdog read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["starting", "rebalancing", "restoring", "working", "saving", "crashed"]
"""``saving``: a checkpoint has begun; what is sent, or stored, is not durable yet."""
Place = tuple[str, int]
"""A topic's name on the broker, and a partition."""


@dataclass(frozen=True, slots=True)
class Look:
    """One stage at one instant. Instants in seconds are those of `time.monotonic`.

    Attributes
    ----------
    stage
        Its name.
    phase, since_s
        What it does, and since when.
    generation
        Generation of the consumer group; 0 before it has joined.
    positions
        Of each partition assigned, the offset after the last message applied; None before the first one.
    watermark_ms, record_ms
        By partition: the state's event-time watermark; the record time of the newest message applied, ms UTC.
    held
        Messages applied and not yet acknowledged.
    saved_s
        When the last checkpoint was complete; None before the first.
    waits_for
        What outside Kafka the stage waits for on purpose, in words; empty while it does not.
    """

    stage: str
    phase: Phase
    since_s: float
    generation: int = 0
    positions: Mapping[Place, int | None] = field(default_factory=dict)
    watermark_ms: Mapping[int, int] = field(default_factory=dict)
    record_ms: Mapping[int, int] = field(default_factory=dict)
    held: int = 0
    saved_s: float | None = None
    waits_for: str = ""


def lag(look: Look, ends: Mapping[Place, int], committed: Mapping[Place, int]) -> dict[Place, int]:
    """Return how many messages of each partition are not applied yet.

    Parameters
    ----------
    look
        The stage.
    ends
        Offset after the last message of each partition.
    committed
        Where the group stands: taken where nothing has been applied yet; without it the whole partition counts.

    Examples
    --------
    >>> lag(Look("warn", "working", 0.0, positions={("t", 0): 7, ("t", 1): None}), {("t", 0): 9, ("t", 1): 5}, {})
    {('t', 0): 2, ('t', 1): 5}
    """
    found = {}
    for place, position in look.positions.items():
        if place in ends:
            at = committed.get(place, 0) if position is None else position
            found[place] = max(0, ends[place] - at)
    return found


@dataclass(slots=True)
class Membership:
    """What an app's consumer group does: written by the app's signals, shared by its stages."""

    generation: int = 0
    assigned: frozenset[Place] = frozenset()
    rebalancing: bool = False
    since_s: float = 0.0
    """When it last changed."""
