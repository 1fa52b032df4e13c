"""A process of its own that drives SUMO through libsumo: a configuration in, one line of JSON an interval out.

It is a process because libsumo holds one simulation a process and brings libraries of its own; and so it imports
neither numpy nor pyarrow. The first line says whether the simulation is mesoscopic, an error is a line as well.

``python -m ingest.sumo.child CONFIG INTERVAL_S PROBE_SHARE``
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TextIO

from ingest.sumo.share import is_probe

POSITIONS_S = 10.0
"""Probes tell where they are so often."""
EPSILON_S = 1e-6


class Drive:
    """A running simulation.

    Parameters
    ----------
    sumo
        The module ``libsumo``.
    config
        The ``.sumocfg``.
    interval_s
        Loops report so often, s.
    probe_share
        Share of the vehicles that are probes.
    """

    def __init__(self, sumo: Any, config: str, interval_s: float, probe_share: float) -> None:
        sumo.start(["sumo", "-c", config, "--no-step-log", "true", "--duration-log.disable", "true"])
        self._sumo = sumo
        self._interval_s, self._probe_share = interval_s, probe_share
        self.mesoscopic = sumo.simulation.getOption("mesosim") == "true"
        loops = () if self.mesoscopic else sumo.inductionloop.getIDList()
        self._place = {loop: _place(sumo.inductionloop, loop) for loop in loops}
        self._count = dict.fromkeys(loops, 0)
        self._speed = dict.fromkeys(loops, 0.0)
        self._covered_s = dict.fromkeys(loops, 0.0)
        self._edges: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._asked_s = self._began_s = sumo.simulation.getTime()

    def run(self, out: TextIO) -> None:
        """Step to the end of the simulation, and write a line an interval."""
        simulation, step_s = self._sumo.simulation, self._sumo.simulation.getDeltaT()
        due_s = (self._began_s // self._interval_s + 1) * self._interval_s
        while self._goes_on():
            self._sumo.simulationStep()
            now_s = simulation.getTime()
            for loop in self._place:
                self._look(loop, now_s, step_s)
            if now_s - self._asked_s >= POSITIONS_S:
                self._ask()
                self._asked_s = now_s
            if now_s >= due_s - step_s / 2:
                self._report(out, now_s)
                due_s += self._interval_s
        if simulation.getTime() > self._began_s:
            self._report(out, simulation.getTime())

    def _goes_on(self) -> bool:
        simulation = self._sumo.simulation
        end_s = simulation.getEndTime()
        return bool(simulation.getTime() < end_s if end_s >= 0 else simulation.getMinExpectedNumber() > 0)

    def _look(self, loop: str, now_s: float, step_s: float) -> None:
        for vehicle, length_m, came_s, left_s, _ in self._sumo.inductionloop.getVehicleData(loop):
            left = left_s >= 0
            self._covered_s[loop] += max(0.0, (left_s if left else now_s) - max(came_s, now_s - step_s))
            # One that left at the very end of a step is told of in the next as well.
            fresh = left and left_s > max(came_s, now_s - step_s + EPSILON_S)
            if fresh and not self._changed_lane(loop, vehicle, length_m):
                self._count[loop] += 1
                self._speed[loop] += length_m / (left_s - came_s)

    def _changed_lane(self, loop: str, vehicle: str, length_m: float) -> bool:
        """Return whether a vehicle left a loop to the side: not all of it has passed the place on the same edge."""
        edge, position_m = self._place[loop]
        vehicles = self._sumo.vehicle
        try:
            return bool(
                vehicles.getRoadID(vehicle) == edge and vehicles.getLanePosition(vehicle) - length_m < position_m
            )
        except self._sumo.TraCIException:  # it has arrived
            return False

    def _ask(self) -> None:
        vehicles = self._sumo.vehicle
        for vehicle in vehicles.getIDList():
            if is_probe(vehicle, self._probe_share):
                edge, speed_ms = vehicles.getRoadID(vehicle), vehicles.getSpeed(vehicle)
                if edge and not edge.startswith(":") and speed_ms >= 0:
                    self._edges[edge][0] += speed_ms
                    self._edges[edge][1] += 1

    def _report(self, out: TextIO, now_s: float) -> None:
        length_s = now_s - self._began_s
        loops = []
        for loop, count in self._count.items():
            speed = self._speed[loop] / count if count else None
            loops.append([loop, count, speed, min(1.0, self._covered_s[loop] / length_s)])
            self._count[loop], self._speed[loop], self._covered_s[loop] = 0, 0.0, 0.0
        edges = [[edge, total / count] for edge, (total, count) in self._edges.items()]
        self._edges.clear()
        _say(out, {"from_s": self._began_s, "to_s": now_s, "loops": loops, "edges": edges})
        self._began_s = now_s


def _place(loops: Any, loop: str) -> tuple[str, float]:
    """Return the edge of a loop and its metres from the start."""
    return loops.getLaneID(loop).rpartition("_")[0], loops.getPosition(loop)


def _say(out: TextIO, what: dict[str, Any]) -> None:
    print(json.dumps(what), file=out, flush=True)


def main(config: str, interval_s: float, probe_share: float) -> None:
    """Drive the simulation; what SUMO itself prints goes to the errors' stream."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import libsumo

    said: list[str] = []
    try:
        with _heard(said):
            drive = Drive(libsumo, config, interval_s, probe_share)
        _say(out, {"mesoscopic": drive.mesoscopic})
        drive.run(out)
        libsumo.close()
    except (libsumo.TraCIException, libsumo.FatalTraCIError) as error:
        _say(out, {"error": " ".join([*said, str(error)])})


@contextlib.contextmanager
def _heard(errors: list[str]) -> Iterator[None]:
    """Note the errors that SUMO prints meanwhile: what it raises says less."""
    before = os.dup(2)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            heard.seek(0)
            text = heard.read().decode("utf-8", "replace")
            sys.stderr.write(text)
            errors += [line for line in text.splitlines() if line.startswith("Error")]


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
