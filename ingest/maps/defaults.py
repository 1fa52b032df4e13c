"""What is assumed of a road where the map does not say: limit, lanes, free-flow speed, capacity by class.

Sources
-------
Limits: those of a European town by class (OSM wiki, "Default speed limits", Portugal: motorway 120, motorroad 100,
urban 50), lowered to 100 and 80 for urban motorways and trunks, which are seldom posted higher.
Lanes: SUMO's ``osmNetconvert.typ.xml`` (motorway, trunk and primary two a direction), one for an untagged primary of a
town. Capacity: HCM 6th edition. Motorway 2,300 pc/h/lane at 100 km/h (exhibit 12-4), about 2,000 veh/h with a tenth of
heavy vehicles; interrupted roads 1,900 pc/h of green and lane (chapter 19) times the share of green that a road of its
class gets at a signal, taken as 0.50, 0.45 and 0.35 (judgement). Free-flow speed: the limit, on interrupted roads a
tenth to a fifth lower for the signals met at night (judgement).
"""

from __future__ import annotations

from dataclasses import dataclass

from citybrain.network import RoadClass


@dataclass(frozen=True, slots=True)
class ClassDefaults:
    """Assumptions for one class of road."""

    limit_kmh: float
    lanes: int
    free_flow_share: float
    """Free-flow speed as a share of the limit."""
    capacity_vph_per_lane: float


DEFAULTS: dict[str, ClassDefaults] = {
    "motorway": ClassDefaults(100.0, 2, 1.0, 2000.0),
    "motorway_link": ClassDefaults(60.0, 1, 1.0, 1600.0),
    "trunk": ClassDefaults(80.0, 2, 1.0, 1800.0),
    "trunk_link": ClassDefaults(50.0, 1, 1.0, 1500.0),
    "primary": ClassDefaults(50.0, 1, 0.9, 950.0),
    "primary_link": ClassDefaults(50.0, 1, 0.8, 950.0),
    "secondary": ClassDefaults(50.0, 1, 0.9, 850.0),
    "secondary_link": ClassDefaults(50.0, 1, 0.8, 850.0),
    "tertiary": ClassDefaults(50.0, 1, 0.8, 650.0),
    "tertiary_link": ClassDefaults(50.0, 1, 0.8, 650.0),
    "unclassified": ClassDefaults(50.0, 1, 0.8, 600.0),
    "residential": ClassDefaults(30.0, 1, 0.9, 500.0),
    "living_street": ClassDefaults(20.0, 1, 0.9, 300.0),
}
"""Assumptions by the value of OpenStreetMap's ``highway``."""


def road_class(highway: str) -> RoadClass:
    """Return our class of an OpenStreetMap ``highway`` value.

    Examples
    --------
    >>> road_class("primary_link"), road_class("trunk"), road_class("unclassified")
    ('link', 'trunk', 'other')
    """
    if highway.endswith("_link"):
        return "link"
    known: dict[str, RoadClass] = {
        "motorway": "motorway",
        "trunk": "trunk",
        "primary": "primary",
        "secondary": "secondary",
        "tertiary": "tertiary",
        "residential": "residential",
    }
    return known.get(highway, "other")
