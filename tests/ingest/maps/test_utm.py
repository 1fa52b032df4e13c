"""UTM against SUMO's own projection."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from ingest.maps.sumo import read_net
from tests.ingest.sumo.town import program

CONVERT = """
import json, sys, libsumo
libsumo.start(["sumo", "-n", sys.argv[1]])
print(json.dumps([libsumo.simulation.convertGeo(x, y) for x, y in json.loads(sys.argv[2])]))
"""


def test_places_are_where_sumo_says_they_are(tmp_path: Path) -> None:
    places = {"n0": (-8.61, 41.15), "n1": (-8.60, 41.16), "n2": (-8.45, 41.10)}
    nodes = [f'<node id="{name}" x="{lon}" y="{lat}"/>' for name, (lon, lat) in places.items()]
    edges = [f'<edge id="{a}{b}" from="n{a}" to="n{b}"/>' for a, b in ((0, 1), (1, 2), (2, 0))]
    (tmp_path / "n.xml").write_text(f"<nodes>{''.join(nodes)}</nodes>")
    (tmp_path / "e.xml").write_text(f"<edges>{''.join(edges)}</edges>")
    netconvert = program("netconvert")
    subprocess.run(
        [netconvert, "-n", "n.xml", "-e", "e.xml", "--proj.utm", "-o", "net.xml"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    net = read_net(tmp_path / "net.xml")
    metres = np.concatenate([edge.shape for edge in net.edges.values()])
    asked = [sys.executable, "-c", CONVERT, str(tmp_path / "net.xml"), json.dumps(metres.tolist())]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    theirs = next(json.loads(line) for line in told if line.startswith("[["))
    assert np.abs(net.degrees(metres) - np.array(theirs)).max() < 1e-8
