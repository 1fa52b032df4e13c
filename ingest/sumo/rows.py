"""What one of SUMO's detectors saw in an interval; times are seconds of the simulation, speeds m/s as SUMO has them."""

from __future__ import annotations

import math
from typing import NamedTuple

from citybrain.records import SpeedKind

PROBE = "probe:"
"""An edge has a detector of kind ``probe`` with this before its id: the vehicles there that tell where they are."""


class Row(NamedTuple):
    """One detector, one interval.

    Attributes
    ----------
    detector
        SUMO's id of it, or `PROBE` and that of an edge.
    from_s, to_s
        Half-open interval, s of the simulation.
    count_veh, speed_ms, occupancy
        Vehicles; mean speed, m/s; share 0..1. NaN where not known.
    speed_kind
        How the speed is averaged.
    whole
        True where the count is of all lanes of the edge, wherever the detector lies.
    """

    detector: str
    from_s: float
    to_s: float
    count_veh: float
    speed_ms: float
    occupancy: float
    speed_kind: SpeedKind
    whole: bool = False

    @property
    def is_probe(self) -> bool:
        """True where vehicles told it, not a detector."""
        return self.detector.startswith(PROBE)


def probe_row(edge: str, from_s: float, to_s: float, speed_ms: float) -> Row:
    """Return what the probes of an edge told: the mean over their positions is the mean over space (Edie 1963)."""
    return Row(PROBE + edge, from_s, to_s, math.nan, speed_ms, math.nan, SpeedKind.SPACE_MEAN)
