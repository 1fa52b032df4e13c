"""The hour of ``benchmarks.cases.cityhour`` in SUMO's mesoscopic mode through libsumo.

Junctions limit the flow by priority (``--meso-junction-control``), signals are off, and 60 % of the drivers renew their
way every 5 min, or none where ways are fixed. `benchmarks.peers.hour.arguments` says how it is asked for.
"""

from __future__ import annotations

import subprocess
import tempfile
from argparse import Namespace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from benchmarks.peers.hour import HOUR_S, Told, arguments

PLATOON = 5
REROUTING = 0.6
ROUTES_S = 300


def main(asked: Namespace) -> None:
    """Make SUMO's files, then run: from the first step to the last is measured."""
    import libsumo

    told = Told(asked.flows)
    with np.load(asked.case) as stored:
        a = {name: stored[name] for name in stored.files}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _network(folder, a)
        _trips(folder, a)
        (folder / "flows.add.xml").write_text('<additional><edgeData id="hour" file="flows.xml"/></additional>')
        libsumo.start([
            "sumo", "-n", str(folder / "net.xml"), "-r", str(folder / "trips.xml"), "-a", str(folder / "flows.add.xml"),
            "--mesosim", "--meso-junction-control", "--junction-taz", "--ignore-route-errors", "--no-step-log",
            "--no-warnings", "--duration-log.disable", "--time-to-teleport", "-1", "--seed", str(asked.seed),
            "--device.rerouting.period", str(ROUTES_S),
            "--device.rerouting.probability", str(0.0 if asked.fixed else REROUTING),
        ])  # fmt: skip
        arrived = [0]

        def run() -> None:
            for _ in range(HOUR_S):
                libsumo.simulationStep()
                arrived[0] += libsumo.simulation.getArrivedNumber()

        told.measure(run)
        libsumo.close()
        left = np.zeros(len(a["from_node"]))
        for edge in ElementTree.parse(folder / "flows.xml").getroot().iter("edge"):
            if edge.get("id", "").startswith("l"):
                left[int(edge.attrib["id"][1:])] = float(edge.get("left", 0)) + float(edge.get("arrived", 0))
    told.tell(left, arrived[0])


def _network(folder: Path, a: dict[str, npt.NDArray[np.float64]]) -> None:
    place = (a["place_km"] * 1000).round(2).tolist()
    nodes = [f'<node id="{at}" x="{x}" y="{y}" type="priority"/>' for at, (x, y) in enumerate(place)]
    rows = zip(*(a[name].tolist() for name in ("from_node", "to_node", "lanes", "length_m", "speed_ms")), strict=True)
    edges = [
        f'<edge id="l{at}" from="{begin}" to="{end}" numLanes="{lanes}" speed="{speed:.2f}" length="{length:.2f}"/>'
        for at, (begin, end, lanes, length, speed) in enumerate(rows)
    ]
    (folder / "nodes.xml").write_text(f"<nodes>{''.join(nodes)}</nodes>")
    (folder / "edges.xml").write_text(f"<edges>{''.join(edges)}</edges>")
    from sumolib import checkBinary

    subprocess.run(
        [checkBinary("netconvert"), "-n", "nodes.xml", "-e", "edges.xml", "-o", "net.xml", "--no-warnings"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


def _trips(folder: Path, a: dict[str, npt.NDArray[np.float64]]) -> None:
    goal = a["sinks"][a["platoon_zone"].astype(np.int64), 0]
    rows = zip(a["platoon_depart_s"].tolist(), a["platoon_origin"].tolist(), goal.tolist(), strict=True)
    trips = [
        (depart + nth, f'fromJunction="{origin}" toJunction="{int(destination)}" departLane="best"')
        for depart, origin, destination in rows
        for nth in range(PLATOON)
    ]
    lines = [f'<trip id="{at}" depart="{depart:.2f}" {ways}/>' for at, (depart, ways) in enumerate(sorted(trips))]
    (folder / "trips.xml").write_text(f"<routes>{''.join(lines)}</routes>")


if __name__ == "__main__":
    main(arguments())
