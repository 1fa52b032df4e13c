"""Units: one conversion factor in one place, and the fixed point of the sums.

Names carry units: ``_kmh, _m, _km, _s, _ms, _vph, _veh, _veh_km, _veh_h``. Shares are 0..1 without a suffix.
"""

from __future__ import annotations

KMH_PER_MPH = 1.609344
KM_PER_MILE = 1.609344
KMH_PER_MS = 3.6
M_PER_KM = 1000.0
S_PER_H = 3600.0
MS_PER_S = 1000
MS_PER_H = 3_600_000

# Fixed point of the sums inside a pane. A reading's share of a pane is rounded once, to an integer, so that sums do
# not depend on the order or the cut of batches. Chosen so that the rounding of one reading is below 1e-8 of its value
# at 30 s and 10 veh/h, and a batch of 1,000 readings of 20,000 veh/h over 5 min still sums below 2**53.
VEH_SCALE = 10**9
"""Units of vehicle counts: 1e-9 vehicles."""
VEH_H_PER_KM_SCALE = 10**11
"""Units of the flow-weighted pace (density times time): 1e-11 veh h/km."""
PACE_S_SCALE = 10**9
"""Units of the time-weighted pace: 1e-9 s h/km."""
OCCUPANCY_S_SCALE = 10**9
"""Units of the time-weighted occupancy: 1e-9 s."""

# Fixed point of additive area sums: integers, so that the city is the same however segments are partitioned.
VKT_SCALE = 10**9
"""Units of vehicle-kilometres in area partials: 1e-9 veh km."""
VHT_SCALE = 10**12
"""Units of vehicle-hours in area partials: 1e-12 veh h."""
