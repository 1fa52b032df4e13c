"""Early warning: will a segment that flows now be congested within 5, 10 or 15 minutes? Features in, probability out.

A logistic regression per horizon on a few features that are known live; the coefficients below are made by
``python -m benchmarks.warning --fit`` and stand nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

Small = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MODEL = "logit-1"
HORIZONS = (5, 10, 15)
"""Minutes ahead; rows of `COEFFICIENTS`."""
FEATURES = ("intercept", "forecast", "speed", "trend", "queue_downstream", "queue_growing", "near_capacity")
COEFFICIENTS = np.array(
    [
        [-0.32, 1.11, 0.00, -4.36, -1.78, 6.02, 2.20],
        [0.45, 1.13, 1.01, -2.54, -1.86, 6.40, 1.39],
        [0.84, 1.14, 1.64, -1.05, -1.72, 6.88, 1.04],
    ],
    dtype=np.float32,
)
"""Fitted on real loops (I-5 and Los-loop, two days each) and one simulated morning of Porto, which counts as a day."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of m segments, shape (m,); shares of free flow, NaN unknown.

    Attributes
    ----------
    p_forecast
        The forecast's probability of congestion at each of `HORIZONS`, shape (m, 3).
    fast, slow
        Speed now and lately.
    downstream, downstream_slow
        Least speed now and lately among the observed segments downstream.
    utilisation
        Flow as a share of capacity.
    """

    p_forecast: Small
    fast: Small
    slow: Small
    downstream: Small
    downstream_slow: Small
    utilisation: Small


def features(outlook: Outlook, horizon: int) -> Small:
    """Return the features for one horizon (index), shape (m, 7); what is not known counts as nothing unusual."""
    p = np.clip(outlook.p_forecast[:, horizon], 0.002, 0.998)
    columns = (
        np.ones_like(p),
        np.log(p / (1 - p)),
        np.clip(outlook.fast, 0.3, 1.1) - 0.8,
        np.clip(outlook.fast - outlook.slow, -0.4, 0.4),
        np.clip(0.7 - outlook.downstream, 0, 0.6),
        np.clip(outlook.downstream_slow - outlook.downstream, 0, 0.6),
        np.clip(outlook.utilisation - 0.7, 0, 0.6),
    )
    return cast(Small, np.nan_to_num(np.stack(columns, axis=1), nan=0.0).astype(np.float32))


def probabilities(outlook: Outlook) -> Small:
    """Return the probability of congestion within each of `HORIZONS`, shape (m, 3), not falling with the horizon."""
    score = np.stack([features(outlook, h) @ COEFFICIENTS[h] for h in range(len(HORIZONS))], axis=1)
    p = (1 / (1 + np.exp(-score))).astype(np.float32)
    p[np.isnan(outlook.fast)] = np.nan
    return cast(Small, np.maximum.accumulate(p, axis=1))


def reasons(outlook: Outlook, usual: Small, usual_ahead: Small) -> dict[str, Mask]:
    """Return, strongest first, which reasons hold where: codes of the text catalogue.

    Parameters
    ----------
    outlook
        What is known.
    usual, usual_ahead
        Typical speed now and in 15 minutes, share of free flow, shape (m,).
    """
    return {
        "queue_downstream": outlook.downstream <= 0.5,
        "trend_down": outlook.fast - outlook.slow <= -0.05,
        "near_capacity": outlook.utilisation >= 0.85,
        "below_typical": outlook.fast <= usual - 0.1,
        "typical_peak": usual_ahead <= 0.55,
    }
