"""The hour of ``benchmarks.cases.cityhour`` in City Brain's engine; `benchmarks.peers.hour.arguments` says how."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from unittest import mock

import numpy as np

from benchmarks.cases.cityhour import Case
from benchmarks.peers.hour import HOUR_S, Told, arguments
from simulators import routes
from simulators.engine import Engine


def main(asked: Namespace) -> None:
    """Run it: the first routes, their renewal and every step are measured."""
    case, told = Case(asked.case), Told(asked.flows)
    roads, trips = case.roads(), case.trips()
    if asked.wave:
        roads = replace(roads, wave_s=np.maximum(roads.length_m / asked.wave, 1.0))
    engine = Engine(roads, trips)

    def run() -> None:
        ways = routes.Routes(roads, case.arrays["sinks"], np.random.default_rng(asked.seed))
        for second in range(1, HOUR_S + 1):
            engine.step(ways.next_link)
            if not asked.fixed and second % routes.EVERY_S == 0 and ways.update(engine):
                engine.rerouted()

    with mock.patch.object(routes, "TASTE", 0.0 if asked.fixed else routes.TASTE):
        told.measure(run)
    told.tell(engine.left[: len(roads)].astype(np.float64), engine.arrived)


if __name__ == "__main__":
    main(arguments())
