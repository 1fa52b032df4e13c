"""How the trips of a day spread over its hours: a purpose and a type of day in, trips an hour out.

Hourly shares are published ones of a nation's urban roads, for weekdays and weekends. Two purposes are carved out of
them: the ways to work and back home, with one peak each and a small one at noon; what is left is everything else, with
its broad top in the afternoon. Through traffic has the shares of the roads between towns. A nation's peak is the sum
of its cities' at different hours, so those of one city are narrower: the ways to work and home are put back as narrow
as one city's. A whole day has the published number of trips, an hour outside the peaks its published share.

References
----------
US EPA, MOVES2014, tables hourVMTFraction (road types 5, urban, and 3, rural) and dayVMTFraction, as in the county
databases of the 2011 emissions platform (public domain): a weekend's day has 78 % of a weekday's traffic in towns and
97 % between them. INE (2017), Inquerito a mobilidade nas areas metropolitanas do Porto e de Lisboa: peaks at 8 and 18.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
DayType = Literal["weekday", "friday", "saturday", "sunday"]
DAY_TYPES: tuple[DayType, ...] = get_args(DayType)
Purpose = Literal["to_work", "to_home", "other", "through"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

# fmt: off
_TOWN_WEEKDAY = (
    0.00986211, 0.00627248, 0.00505767, 0.00466686, 0.00699469, 0.0184940, 0.0459565, 0.0696444,
    0.0608279, 0.0502862, 0.0499351, 0.0543654, 0.0576462, 0.0580319, 0.0622554, 0.0710049,
    0.0769725, 0.0774320, 0.0597830, 0.0443923, 0.0354458, 0.0318240, 0.0249419, 0.0179068,
)
_TOWN_WEEKEND = (
    0.0214739, 0.0144428, 0.0109684, 0.00749451, 0.00683855, 0.0103588, 0.0184304, 0.0268117,
    0.0363852, 0.0475407, 0.0574664, 0.0650786, 0.0713228, 0.0714917, 0.0717226, 0.0720061,
    0.0711487, 0.0678874, 0.0617718, 0.0516882, 0.0428658, 0.0380302, 0.0322072, 0.0245677,
)
_LAND_WEEKDAY = (
    0.0107741, 0.00764376, 0.00654641, 0.00663486, 0.00953999, 0.0200551, 0.0410295, 0.0579722,
    0.0534711, 0.0525478, 0.0550607, 0.0576741, 0.0591429, 0.0608019, 0.0652985, 0.0726082,
    0.0773817, 0.0754816, 0.0587059, 0.0439864, 0.0357309, 0.0307428, 0.0238521, 0.0173177,
)
_LAND_WEEKEND = (
    0.0164213, 0.0111921, 0.0085415, 0.00679328, 0.00721894, 0.0107619, 0.0176800, 0.0268751,
    0.0386587, 0.0522389, 0.0631739, 0.0699435, 0.0729332, 0.0731218, 0.0736159, 0.0744608,
    0.0742165, 0.0700091, 0.0614038, 0.0505043, 0.0412072, 0.0336373, 0.0262243, 0.0191666,
)
_FRIDAY = (
    1.00, 1.00, 1.00, 1.00, 1.00, 0.96, 0.95, 0.95, 0.97, 1.02, 1.06, 1.08, 1.10, 1.12, 1.14, 1.12, 1.06, 1.04, 1.10,
    1.15, 1.18, 1.20, 1.25, 1.35,
)
# fmt: on
"""A Friday's hour against another weekday's [judgement]: an earlier and longer afternoon, a livelier night."""

_TOWN_TOTAL: dict[DayType, float] = {"weekday": 1.0, "friday": 1.0, "saturday": 0.87, "sunday": 0.69}
_LAND_TOTAL: dict[DayType, float] = {"weekday": 1.0, "friday": 1.1, "saturday": 0.93, "sunday": 1.01}
"""Trips of a day against a weekday's; the two of a weekend have the published mean, their difference is judgement."""

_IN_A_CITY, _IN_A_NATION = range(2)
_COMMUTES: dict[tuple[Purpose, DayType], tuple[tuple[float, float, float, float], ...]] = {
    # (share of a weekday's trips in the town, middle as local hour, standard deviation in hours in one city and in a
    # nation): middles after the peaks that INE saw, less half a way; shares and widths are judgement, within what the
    # hours' totals allow.
    ("to_work", "weekday"): ((0.140, 7.55, 0.58, 0.95), (0.020, 13.9, 0.9, 1.1)),
    ("to_work", "friday"): ((0.130, 7.55, 0.58, 0.95), (0.018, 13.9, 0.9, 1.1)),
    ("to_work", "saturday"): ((0.030, 9.0, 1.3, 1.6),),
    ("to_work", "sunday"): ((0.015, 9.5, 1.5, 1.8),),
    ("to_home", "weekday"): ((0.020, 13.0, 0.8, 1.0), (0.120, 17.3, 0.95, 1.3)),
    ("to_home", "friday"): ((0.030, 13.2, 1.0, 1.2), (0.110, 16.9, 1.1, 1.5)),
    ("to_home", "saturday"): ((0.015, 13.5, 1.2, 1.4), (0.015, 18.8, 1.4, 1.6)),
    ("to_home", "sunday"): ((0.015, 18.5, 1.6, 1.9),),
}


def trips_per_hour(purpose: Purpose, kind: npt.NDArray[np.int64], hour: FloatArray, through: float) -> FloatArray:
    """Return trips an hour as a share of an ordinary weekday's trips.

    Parameters
    ----------
    purpose
        Whose.
    kind
        Type of day as an index into `DAY_TYPES`, shape (n,).
    hour
        Civil hour, 0 to 24, shape (n,).
    through
        Share of a weekday's trips that pass through, 0..1.

    Examples
    --------
    >>> minutes = np.arange(0, 24, 1 / 60)
    >>> weekday = np.zeros(len(minutes), np.int64)
    >>> trips = sum(trips_per_hour(name, weekday, minutes, 0.05).mean() * 24 for name in PURPOSES)
    >>> print(round(trips, 3))
    1.0
    """
    rate = np.zeros(len(hour))
    for number, day_type in enumerate(DAY_TYPES):
        inside = kind == number
        rate[inside] = _of_day_type(purpose, day_type, hour[inside], through)
    return rate


def _of_day_type(purpose: Purpose, day_type: DayType, hour: FloatArray, through: float) -> FloatArray:
    if purpose == "through":
        return through * _smooth("land", day_type)(hour % 24.0)
    if purpose != "other":
        return (1.0 - through) * _bumps(purpose, day_type, hour, _IN_A_CITY)
    town = _smooth("town", day_type)(hour % 24.0)
    for way in ("to_work", "to_home"):
        town = town - _bumps(way, day_type, hour, _IN_A_NATION)
    return np.asarray((1.0 - through) * np.maximum(town, 0.0))


def _bumps(purpose: Purpose, day_type: DayType, hour: FloatArray, width: int) -> FloatArray:
    rate = np.zeros(len(hour))
    for share, middle, *widths in _COMMUTES[purpose, day_type]:
        spread = widths[width]
        gap = (hour - middle + 12.0) % 24.0 - 12.0
        rate += share * np.exp(-0.5 * (gap / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    return rate


@cache
def _smooth(where: Literal["town", "land"], day_type: DayType) -> _Slope:
    """Return the rate over a day: the slope of a monotone curve through the cumulated hours; each keeps its share."""
    weekend = day_type in ("saturday", "sunday")
    if where == "town":
        hours, total = (_TOWN_WEEKEND if weekend else _TOWN_WEEKDAY), _TOWN_TOTAL[day_type]
    else:
        hours, total = (_LAND_WEEKEND if weekend else _LAND_WEEKDAY), _LAND_TOTAL[day_type]
    shares = np.array(hours) / sum(hours) * total
    if day_type == "friday" and where == "town":
        shares = shares * np.array(_FRIDAY)
    around = np.concatenate([shares[-2:], shares, shares[:2]])
    return _Slope(np.concatenate([[0.0], np.cumsum(around)]))


class _Slope:
    """Slope of the monotone cubic curve through values an hour apart, the first two hours before the day.

    Slopes at the hours are harmonic means of those beside them (Fritsch and Butland 1984, SIAM J. Sci. Stat. Comput.
    5(2)), as in SciPy's PCHIP, which would bring 40 MB of other methods along.
    """

    def __init__(self, values: FloatArray) -> None:
        rise = np.diff(values)
        with np.errstate(divide="ignore"):
            mean = 1.0 / ((3.0 / rise[:-1] + 3.0 / rise[1:]) / 6.0)
        at = np.where((rise[:-1] * rise[1:]) > 0.0, mean, 0.0)
        # Between hours 0 to 24: the curve's coefficients, highest power last, of what is linear, quadratic and cubic.
        bend = at[1:-2] + at[2:-1] - 2.0 * rise[2:-2]
        self._slope, self._square, self._cube = at[1:-2], rise[2:-2] - at[1:-2] - bend, bend

    def __call__(self, hour: FloatArray) -> FloatArray:
        """Return the slope at local hours, 0 to 24, the end not included."""
        row = hour.astype(np.int64)
        rest = hour - row
        return np.asarray(self._slope[row] + 2.0 * self._square[row] * rest + 3.0 * self._cube[row] * (rest * rest))
