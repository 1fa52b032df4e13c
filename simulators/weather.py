"""Weather: a kind and an intensity in; what it leaves of capacity and free-flow speed, and how many incidents, out.

The shares are those of the Highway Capacity Manual for freeways of 55 mi/h, the nearest it has to a city's roads; on
streets with signals they are taken to be the same [judgement]. Whoever has fewer trips in bad weather says so in the
scenario's demand.

How a run takes it up: ``engine.weather(air.capacity, air.free_flow)`` from its begin on; ``incidents`` goes to
`simulators.incidents.IncidentRules`; who reads plates in heavy rain or snow has a lower `CameraRules.recognition`.

References
----------
Transportation Research Board (2016), Highway Capacity Manual, 6th edition: exhibit 11-20 (capacity), exhibit 11-21
(speed), exhibit 11-5 (what each kind is). Qiu and Nixon (2008), Transportation Research Record 2055, 139-146: crash
rates are 71 % higher in rain and 84 % in snow, over 34 studies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from citybrain.errors import ConfigError

WeatherKind = Literal[
    "clear",
    "light_rain",
    "medium_rain",
    "heavy_rain",
    "light_snow",
    "light_medium_snow",
    "medium_heavy_snow",
    "heavy_snow",
    "severe_cold",
    "low_visibility",
    "very_low_visibility",
    "minimal_visibility",
]
WEATHER_KINDS: tuple[WeatherKind, ...] = get_args(WeatherKind)

RAIN_CRASHES, SNOW_CRASHES, FOG_CRASHES = 1.71, 1.84, 1.5
"""Times as many crashes: Qiu and Nixon (2008); fog is judgement."""
MM_PER_INCH = 25.4


@dataclass(frozen=True, slots=True)
class Weather:
    """What a weather leaves of the roads.

    Attributes
    ----------
    capacity, free_flow
        Shares that are left, above 0 to 1.
    incidents
        Times as many incidents per vehicle-km, above 0.
    """

    capacity: float = 1.0
    free_flow: float = 1.0
    incidents: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no weather does."""
        for name in ("capacity", "free_flow"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ConfigError(f"weather: {name} {getattr(self, name)} seen, above 0 to 1 allowed")
        if not self.incidents > 0.0:
            raise ConfigError(f"weather: incidents {self.incidents} seen, above 0 allowed")


BY_KIND: dict[WeatherKind, Weather] = {
    "clear": Weather(),
    # HCM 2010, exhibit 10-15: 2 % of the capacity below 0.10 in/h, which the 6th edition counts as no severe weather.
    "light_rain": Weather(0.98, 0.98, 1.0 + (RAIN_CRASHES - 1.0) / 2),
    "medium_rain": Weather(0.94, 0.96, RAIN_CRASHES),
    "heavy_rain": Weather(0.89, 0.94, RAIN_CRASHES),
    "light_snow": Weather(0.97, 0.94, SNOW_CRASHES),
    "light_medium_snow": Weather(0.95, 0.92, SNOW_CRASHES),
    "medium_heavy_snow": Weather(0.93, 0.90, SNOW_CRASHES),
    "heavy_snow": Weather(0.80, 0.88, SNOW_CRASHES),
    "severe_cold": Weather(0.93, 0.95, 1.0),
    "low_visibility": Weather(0.90, 0.96, FOG_CRASHES),
    "very_low_visibility": Weather(0.88, 0.95, FOG_CRASHES),
    "minimal_visibility": Weather(0.90, 0.95, FOG_CRASHES),
}


def rain(mm_per_h: float) -> Weather:
    """Return the weather of a rain: light below 0.10 in/h, heavy above 0.25 in/h.

    Examples
    --------
    >>> rain(0.0) == Weather(), rain(1.0).capacity, rain(4.0).capacity, rain(10.0).capacity
    (True, 0.98, 0.94, 0.89)
    """
    return BY_KIND[_step("rain", mm_per_h, (0.0, 0.10, 0.25), ("clear", "light_rain", "medium_rain", "heavy_rain"))]


def snow(mm_per_h: float) -> Weather:
    """Return the weather of a snowfall, mm of water an hour: steps at 0.05, 0.10 and 0.50 in/h.

    Examples
    --------
    >>> snow(1.0).free_flow, snow(2.0).free_flow, snow(5.0).free_flow, snow(20.0).free_flow
    (0.94, 0.92, 0.9, 0.88)
    """
    kinds: tuple[WeatherKind, ...] = ("clear", "light_snow", "light_medium_snow", "medium_heavy_snow", "heavy_snow")
    return BY_KIND[_step("snow", mm_per_h, (0.0, 0.05, 0.10, 0.50), kinds)]


def fog(visibility_m: float) -> Weather:
    """Return the weather of a visibility: below 1 mile it matters, with steps at half and a quarter of one.

    Examples
    --------
    >>> fog(5000).capacity, fog(1000).capacity, fog(500).capacity, fog(100).capacity
    (1.0, 0.9, 0.88, 0.9)
    """
    if not visibility_m >= 0:
        raise ConfigError(f"fog: visibility {visibility_m} m seen, 0 or above allowed")
    mile = 1609.344
    for least, kind in ((mile, "clear"), (mile / 2, "low_visibility"), (mile / 4, "very_low_visibility")):
        if visibility_m >= least:
            return BY_KIND[kind]  # type: ignore[index]
    return BY_KIND["minimal_visibility"]


def _step(name: str, mm_per_h: float, breaks: tuple[float, ...], kinds: tuple[WeatherKind, ...]) -> WeatherKind:
    if not mm_per_h >= 0:
        raise ConfigError(f"{name}: {mm_per_h} mm/h seen, 0 or above allowed")
    return kinds[sum(mm_per_h > limit * MM_PER_INCH for limit in breaks)]
