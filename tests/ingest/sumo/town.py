"""A small town for SUMO: its network by hand, or made by SUMO's own programs where the extra is there."""

from __future__ import annotations

import importlib.util
import random
import subprocess
from pathlib import Path

import pytest

NET = """<?xml version="1.0" encoding="UTF-8"?>
<net version="1.20">
    <location netOffset="-532000.00,-4555000.00" convBoundary="0,0,1000,1000" origBoundary="0,0,1,1"
        projParameter="{}"/>
    <edge id=":B_0" function="internal"><lane id=":B_0_0" index="0" speed="10" length="5" shape="0,0 5,0"/></edge>
    <edge id="AB" from="A" to="B" priority="3" type="highway.secondary" name="Rua Um">
        <lane id="AB_0" index="0" disallow="passenger" speed="5.00" length="500.00" shape="0.00,-6.00 500.00,-6.00"/>
        <lane id="AB_1" index="1" speed="13.89" length="500.00" shape="0.00,-3.00 500.00,-3.00"/>
        <lane id="AB_2" index="2" disallow="tram" speed="13.89" length="500.00" shape="0.00,0.00 500.00,0.00"/>
    </edge>
    <edge id="BA" from="B" to="A" priority="3" shape="500,0 0,0">
        <lane id="BA_0" index="0" allow="bus passenger" speed="27.78" length="500.00" shape="500.00,3.00 0.00,3.00"/>
    </edge>
    <edge id="walk" from="A" to="B" type="highway.footway">
        <lane id="walk_0" index="0" allow="pedestrian" speed="2.78" length="500.00" shape="0.00,9.00 500.00,9.00"/>
    </edge>
    <junction id="A" type="priority" x="0.00" y="0.00" incLanes="BA_0" intLanes="" shape="0,0 1,1"/>
</net>
"""
UTM = "+proj=utm +zone=29 +ellps=WGS84 +datum=WGS84 +units=m +no_defs"
DETECTORS = """<additional>
    <e1Detector id="one" lane="AB_1" pos="100" period="60" file="e1.xml"/>
    <inductionLoop id="two" lane="BA_0" pos="-50" freq="60" file="e1.xml"/>
    <laneAreaDetector id="area" lane="AB_2" pos="100" endPos="300" period="60" file="e2.xml"/>
    <e1Detector id="on foot" lane="walk_0" pos="1" period="60" file="e1.xml"/>
</additional>
"""


def config(folder: Path, *, projection: str = UTM, net: str = NET, detectors: str = DETECTORS) -> Path:
    """Write a network, its detectors and the configuration that names both; return the configuration."""
    (folder / "net.xml").write_text(net.format(projection))
    (folder / "detectors.xml").write_text(detectors)
    path = folder / "town.sumocfg"
    path.write_text(
        '<configuration><input><net-file value="net.xml"/><additional-files value="detectors.xml"/></input>'
        "</configuration>"
    )
    return path


def program(name: str) -> str:
    """Return the path of one of SUMO's programs; skips the test where the extra is absent."""
    found = importlib.util.find_spec("sumo")
    if found is None or found.origin is None or importlib.util.find_spec("libsumo") is None:
        pytest.skip("SUMO is not installed: pip install 'citybrain[peers]'")
    return str(Path(found.origin).parent / "bin" / name)


def simulation(folder: Path, *, until_s: int = 600, more: str = "") -> Path:
    """Make a grid town with loops on two lanes of ten edges and traffic; return its configuration."""
    subprocess.run(
        [program("netgenerate"), "--grid", "--grid.number=4", "--grid.length=300", "-L2", "-o", folder / "net.xml"],
        check=True, capture_output=True,
    )  # fmt: skip
    lines = (folder / "net.xml").read_text().splitlines()
    edges = [line.split('"')[1] for line in lines if "<edge id=" in line and "internal" not in line]
    loops = [
        f'<e1Detector id="{edge}/{lane}" lane="{edge}_{lane}" pos="120" period="60" file="e1.xml"/>'
        for edge in edges[:10]
        for lane in (0, 1)
    ]
    area = f'<e2Detector id="area" lane="{edges[0]}_0" pos="20" length="100" period="60" file="e2.xml"/>'
    (folder / "detectors.xml").write_text(f"<additional>{''.join(loops)}{area}</additional>")
    draw = random.Random(1)
    trips = [
        f'<trip id="v{n}" type="{draw.choice(["car", "car", "truck"])}" depart="{n * 0.6:.1f}" '
        'from="{}" to="{}"/>'.format(*draw.sample(edges, 2))
        for n in range(round(until_s / 0.7))
    ]
    kinds = '<vType id="car"/><vType id="truck" vClass="truck" length="12"/>'
    (folder / "trips.xml").write_text(f"<routes>{kinds}{''.join(trips)}</routes>")
    path = folder / "town.sumocfg"
    path.write_text(
        '<configuration><input><net-file value="net.xml"/><route-files value="trips.xml"/>'
        '<additional-files value="detectors.xml"/></input><output><fcd-output value="fcd.xml.gz"/></output>'
        f'<time><begin value="0"/><end value="{until_s}"/></time>{more}</configuration>'
    )
    return path
