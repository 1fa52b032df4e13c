"""SUMO's output files in, rows out: induction loops (E1), lane areas (E2), floating-car data; XML, gzipped or not.

A row that cannot be used is refused, and so is the rest of a file that breaks off; a file of another kind ends the
feed.

References
----------
SUMO documentation, "Induction Loops Detectors (E1)", "Lanearea Detectors (E2)", "FCDOutput".
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from citybrain.errors import FeedError
from citybrain.records import SpeedKind
from ingest.sumo.rows import Row, probe_row
from ingest.sumo.share import is_probe
from ingest.tablefile import Refused
from ingest.xmltags import Tag, tags

STAGE = "sumo"


class _Form(NamedTuple):
    """Names of the attributes of one kind of detector."""

    vehicles: str
    speed: str
    occupancy: str
    speed_kind: SpeedKind
    whole: bool = False


_FORMS = {
    "nVehContrib": _Form("nVehContrib", "speed", "occupancy", SpeedKind.TIME_MEAN),
    "nVehSeen": _Form("nVehEntered", "meanSpeed", "meanOccupancy", SpeedKind.SPACE_MEAN),
    "departed": _Form("entered", "speed", "occupancy", SpeedKind.SPACE_MEAN, whole=True),
}
"""By an attribute that only this kind has: E1, E2, and E1 of the mesoscopic mode, which knows no lanes."""


class OutputFile:
    """One output file.

    Parameters
    ----------
    path
        ``.xml`` or ``.xml.gz``.
    source
        Name of the feed.
    interval_s
        Positions of floating cars are put together over so long, s.
    probe_share
        Share of the vehicles of floating-car data that are taken, 0..1.
    """

    def __init__(self, path: Path, source: str, *, interval_s: float, probe_share: float) -> None:
        self.path = path
        self.refused = Refused(source, path.name, STAGE)
        self._interval_s = interval_s
        self._probe_share = probe_share

    def rows(self) -> Iterator[Row]:
        """Yield the rows in order of the end of their interval.

        Raises
        ------
        FeedError
            If the file is none of the three kinds.
        """
        found = tags(self.path)
        root = next(found, None)
        name = "nothing" if root is None else f"<{root.name}>"
        if name == "<detector>":
            return self._whole(self._of_detectors(found))
        if name == "<fcd-export>":
            return self._whole(self._of_floating_cars(found))
        raise FeedError(f"{self.path}: {name} seen, <detector> (E1, E2) or <fcd-export> allowed")

    def _whole(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Refuse what ends before the row before it, and what cannot be read any further."""
        newest_s = -math.inf
        try:
            for row in rows:
                if row.to_s < newest_s:
                    self._refuse(
                        f"an end at {row.to_s:g} s after {newest_s:g} s seen, rising ends allowed", -1, str(row)
                    )
                    continue
                newest_s = row.to_s
                yield row
        except FeedError as error:
            self._refuse(str(error), -1, self.path.name)

    def _of_detectors(self, found: Iterator[Tag]) -> Iterator[Row]:
        for tag in found:
            if tag.name != "interval":
                continue
            form = next((form for name, form in _FORMS.items() if name in tag.attributes), None)
            if form is None:
                self._refuse_tag(tag, "an interval of an E1 or E2 detector")
                continue
            try:
                row = _interval(tag.attributes, form)
            except (KeyError, ValueError):
                self._refuse_tag(tag, "id, begin before end, and finite numbers")
                continue
            yield row

    def _of_floating_cars(self, found: Iterator[Tag]) -> Iterator[Row]:
        sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        number, timed = -1, False
        for tag in found:
            if tag.name == "timestep":
                at = self._number_at(tag)
                timed = at is not None
                if at is not None and at > number:
                    yield from self._means(sums, number)
                    sums.clear()
                    number = at
            elif tag.name == "vehicle" and timed:
                self._add(sums, tag)
        yield from self._means(sums, number)

    def _number_at(self, tag: Tag) -> int | None:
        """Return the number of the interval of a time step, None where it tells no time."""
        try:
            return math.floor(float(tag.attributes["time"]) / self._interval_s)
        except (KeyError, ValueError, OverflowError):
            self._refuse_tag(tag, "a time in s")
            return None

    def _add(self, sums: dict[str, list[float]], tag: Tag) -> None:
        try:
            vehicle, speed_ms = tag.attributes["id"], float(tag.attributes["speed"])
            edge = tag.attributes.get("edge") or tag.attributes["lane"].rpartition("_")[0]
        except (KeyError, ValueError):
            self._refuse_tag(tag, "id, speed in m/s, and lane or edge")
            return
        if not 0 <= speed_ms < math.inf:
            self._refuse_tag(tag, "a speed of 0 or more, m/s")
        elif not edge.startswith(":") and is_probe(vehicle, self._probe_share):  # ":" is inside a junction
            sums[edge][0] += speed_ms
            sums[edge][1] += 1

    def _means(self, sums: dict[str, list[float]], number: int) -> Iterator[Row]:
        begin_s = number * self._interval_s
        for edge, (speeds, count) in sums.items():
            yield probe_row(edge, begin_s, begin_s + self._interval_s, speeds / count)

    def _refuse_tag(self, tag: Tag, allowed: str) -> None:
        seen = " ".join(f'{name}="{value}"' for name, value in tag.attributes.items())
        self._refuse(f"<{tag.name} {seen}> seen, {allowed} allowed"[:400], tag.line, seen)

    def _refuse(self, detail: str, line: int, excerpt: str) -> None:
        self.refused.add("malformed", detail, row=line, count=1, excerpt=excerpt)


def _interval(attributes: dict[str, str], form: _Form) -> Row:
    if form.whole:  # it leaves out what nobody told
        attributes = {form.speed: "-1", form.occupancy: "0"} | attributes
    from_s, to_s, count, speed, occupancy = (
        float(attributes[name]) for name in ("begin", "end", form.vehicles, form.speed, form.occupancy)
    )
    if not (0 <= from_s < to_s < math.inf and 0 <= count < math.inf and math.isfinite(speed + occupancy)):
        raise ValueError
    # SUMO tells -1 where nothing was measured.
    return Row(
        attributes["id"], from_s, to_s, count, speed if speed >= 0 else math.nan,
        occupancy / 100 if occupancy >= 0 else math.nan, form.speed_kind, form.whole,
    )  # fmt: skip
