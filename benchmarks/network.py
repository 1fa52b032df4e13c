"""Import a made-up town of 50,000 segments from OpenStreetMap XML; load it, and the demo city, from their files."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.figure import Figure
from citybrain.network import Network
from ingest.maps.build import BuildOptions, network_of
from ingest.maps.detectors import no_detectors
from ingest.maps.osm import imported

SIDE = 112
"""Crossings a side: 4 x 112 x 111 directed segments."""
PORTO = Path(__file__).parent.parent / "cities" / "porto" / "network.arrow"


def run() -> list[Figure]:
    """Return seconds of an import, and milliseconds of loading."""
    with tempfile.TemporaryDirectory() as folder:
        town = _town(Path(folder) / "town.osm")
        began = time.perf_counter()
        made = network_of(imported(town), BuildOptions("Town", 4, lambda links: no_detectors()))
        import_s = time.perf_counter() - began
        made.save(Path(folder) / "town.arrow")
        size = len(made.segments)
        load_ms = _load_ms(Path(folder) / "town.arrow")
    return [
        Figure(f"import of {size:,} segments", import_s, "s"),
        Figure(f"load of {size:,} segments, with version", load_ms, "ms"),
        Figure("load of the demo city, with version", _load_ms(PORTO), "ms", "< 200"),
    ]


def _load_ms(path: Path) -> float:
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        assert Network.load(path).version
        best = min(best, time.perf_counter() - began)
    return best * 1000


def _town(path: Path) -> Path:
    """Write a square grid of two-way primary roads, 150 m from crossing to crossing."""
    step = 0.00135
    with path.open("w") as out:
        out.write("<osm version='0.6'>\n")
        for at in range(SIDE * SIDE):
            lon, lat = at % SIDE * step, 41 + at // SIDE * step
            out.write(f"<node id='{at + 1}' version='1' lon='{lon:.7f}' lat='{lat:.7f}'/>\n")
        for line in range(SIDE):
            across = [line * SIDE + k + 1 for k in range(SIDE)]
            down = [k * SIDE + line + 1 for k in range(SIDE)]
            for number, nodes in ((2 * line + 1, across), (2 * line + 2, down)):
                refs = "".join(f"<nd ref='{node}'/>" for node in nodes)
                tags = f"<tag k='highway' v='primary'/><tag k='name' v='Road {number}'/>"
                out.write(f"<way id='{number}' version='1'>{refs}{tags}</way>\n")
        out.write("</osm>\n")
    return path
