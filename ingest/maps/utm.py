"""Metres of a UTM zone in, degrees WGS 84 out; exact to a millimetre within the zone.

References
----------
Krueger (1912), Konforme Abbildung des Erdellipsoids in der Ebene; series to the third order in n as in Kawase (2011),
Bulletin of the Geospatial Information Authority of Japan 59.
"""

from __future__ import annotations

import numpy as np

from ingest.maps.links import Points

_RADIUS_M, _FLATTENING = 6_378_137.0, 1 / 298.257223563
_SCALE, _EAST_M, _SOUTH_M = 0.9996, 500_000.0, 10_000_000.0
_N = _FLATTENING / (2 - _FLATTENING)
_MERIDIAN_M = _RADIUS_M / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)
_BETA = (_N / 2 - 2 * _N**2 / 3 + 37 * _N**3 / 96, _N**2 / 48 + _N**3 / 15, 17 * _N**3 / 480)
_DELTA = (2 * _N - 2 * _N**2 / 3 - 2 * _N**3, 7 * _N**2 / 3 - 8 * _N**3 / 5, 56 * _N**3 / 15)


def degrees(metres: Points, zone: int, *, south: bool = False) -> Points:
    """Return longitude and latitude.

    Parameters
    ----------
    metres
        Easting and northing, shape (n, 2).
    zone
        UTM zone, 1 to 60.
    south
        True where northings are counted from 10,000 km south of the equator.

    Examples
    --------
    >>> degrees(np.array([[500_000.0, 0.0], [532_730.0, 4_555_567.0]]), 29).round(4).tolist()
    [[-9.0, 0.0], [-8.6099, 41.1508]]
    """
    north = (metres[:, 1] - (_SOUTH_M if south else 0.0)) / (_SCALE * _MERIDIAN_M)
    east = (metres[:, 0] - _EAST_M) / (_SCALE * _MERIDIAN_M)
    xi, eta = north.copy(), east.copy()
    for j, beta in enumerate(_BETA, start=1):
        xi -= beta * np.sin(2 * j * north) * np.cosh(2 * j * east)
        eta -= beta * np.cos(2 * j * north) * np.sinh(2 * j * east)
    chi = np.arcsin(np.sin(xi) / np.cosh(eta))
    lat = chi + sum(delta * np.sin(2 * j * chi) for j, delta in enumerate(_DELTA, start=1))
    lon = np.radians(zone * 6 - 183) + np.arctan2(np.sinh(eta), np.cos(xi))
    lon_lat: Points = np.degrees(np.stack([lon, lat], axis=1))
    return lon_lat
