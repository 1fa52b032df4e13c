"""Factors of a calibration as a file (JSON), and back: for a feed or a scenario to name.

Zones are named by where they are, so that the factors still fit when another seed draws other zones: each takes those
of the nearest zone of its kind. A file of another network is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from citybrain.errors import ConfigError
from simulators.demand import PURPOSE_ENDS, Factors
from simulators.roads import FloatArray
from simulators.zones import Zones

FORMAT = 1


def zone_places_km(zones: Zones, positions_km: FloatArray) -> FloatArray:
    """Return the middle of each zone's nodes, km, shape (zones, 2)."""
    size = np.maximum(np.bincount(zones.of_node, minlength=len(zones)), 1)
    sums = [np.bincount(zones.of_node, weights=positions_km[:, axis], minlength=len(zones)) for axis in (0, 1)]
    return np.stack(sums, axis=1) / size[:, None]


def save_factors(path: Path, factors: Factors, zones: Zones, places_km: FloatArray, about: dict[str, Any]) -> None:
    """Write factors; ``about`` says where they come from, with the network's version as ``network``."""
    rows = [
        {
            "x_km": round(float(place[0]), 3),
            "y_km": round(float(place[1]), 3),
            "gate": bool(zones.gate_vps[zone] > 0),
            **{name: round(float(factors.ends[row, zone]), 4) for row, name in enumerate(PURPOSE_ENDS)},
        }
        for zone, place in enumerate(places_km)
    ]
    hours = [round(float(value), 4) for value in factors.hours]
    content = {"format": FORMAT, **about, "hours": hours, "zones": rows}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def load_factors(path: Path, network_version: str, zones: Zones, places_km: FloatArray) -> Factors:
    """Read what `save_factors` wrote, for a city's zones.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no such file, or was made for another network.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ConfigError(f"{path}: format {content['format']!r} seen, {FORMAT} allowed")
        made_for = str(content["network"])
        hours = np.array(content["hours"], dtype=np.float64)
        rows = content["zones"]
        there = np.array([[row["x_km"], row["y_km"]] for row in rows], dtype=np.float64)
        gate = np.array([row["gate"] for row in rows], dtype=bool)
        ends = np.array([[row[name] for row in rows] for name in PURPOSE_ENDS], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as factors of `citybrain calibrate` ({error!r})") from error
    if made_for != network_version:
        raise ConfigError(f"{path}: network {made_for} seen, {network_version} allowed; calibrate anew")
    if hours.shape != (24,) or not (np.isfinite(ends).all() and (ends > 0).all() and (hours > 0).all()):
        raise ConfigError(
            f"{path}: {len(hours)} hours and a least factor of {ends.min():g} seen, 24 and above 0 allowed"
        )
    return Factors(ends[:, _nearest(places_km, zones.gate_vps > 0, there, gate)], hours)


def _nearest(
    places_km: FloatArray, is_gate: np.ndarray[Any, Any], there: FloatArray, gate: np.ndarray[Any, Any]
) -> Any:
    """Return, for each zone, the row of the file that is nearest, a gate's among gates where the file has any."""
    far = np.hypot(places_km[:, None, 0] - there[None, :, 0], places_km[:, None, 1] - there[None, :, 1])
    other_kind = is_gate[:, None] != gate[None, :]
    return np.argmin(far + 1e6 * other_kind, axis=1)
