"""Which vehicles are probes: an id in, always the same answer out. Needs the standard library only."""

from __future__ import annotations

import zlib


def is_probe(vehicle: str, share: float) -> bool:
    """Return whether a vehicle is one of the share that tells where it is.

    Examples
    --------
    >>> [is_probe("v1", share) for share in (0.0, 1.0)], sum(is_probe(f"v{n}", 0.1) for n in range(1000))
    ([False, True], 115)
    """
    return zlib.crc32(vehicle.encode()) < share * 2**32
