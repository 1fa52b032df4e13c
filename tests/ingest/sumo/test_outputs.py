"""SUMO's output files become rows; what is wrong in them is refused with its place."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from citybrain.errors import FeedError
from citybrain.records import SpeedKind
from ingest.sumo.outputs import OutputFile
from ingest.sumo.rows import Row

E1 = """<detector>
    <interval begin="0.00" end="60.00" id="one" nVehContrib="3" flow="180.00" occupancy="3.50" speed="14.80"
        harmonicMeanSpeed="14.75" length="9.67" nVehEntered="3"/>
    <interval begin="0.00" end="60.00" id="two" nVehContrib="0" flow="0.00" occupancy="0.00" speed="-1.00"
        harmonicMeanSpeed="-1.00" length="-1.00" nVehEntered="0"/>
</detector>
"""
E2 = """<detector>
    <interval begin="60.00" end="120.00" id="area" sampledSeconds="27.88" nVehEntered="4" nVehLeft="3" nVehSeen="5"
        meanSpeed="12.50" meanTimeLoss="0.36" meanOccupancy="5.00" maxOccupancy="12.00"/>
</detector>
"""
MESO = """<detector>
    <interval begin="0.00" end="60.00" id="one" sampledSeconds="20.18" density="3.56" laneDensity="1.78"
        occupancy="1.69" speed="15.02" departed="0" arrived="0" entered="4" left="3" flow="192.68"/>
    <interval begin="60.00" end="120.00" id="one" sampledSeconds="0.00" departed="0" arrived="0" entered="0" left="0"
        distance="0.00"/>
</detector>
"""
FCD = """<fcd-export>
    <timestep time="0.00"><vehicle id="a" x="1" y="1" speed="10.00" pos="5.10" lane="AB_1"/></timestep>
    <timestep time="30.00">
        <vehicle id="a" x="1" y="1" speed="20.00" pos="5.10" lane="AB_0"/>
        <vehicle id="b" x="1" y="1" speed="0.00" pos="5.10" lane="Main_Street_0"/>
        <vehicle id="c" x="1" y="1" speed="9.00" pos="5.10" lane=":B_0_0"/>
        <person id="p" x="1" y="1" speed="1.00" pos="1" edge="AB"/>
    </timestep>
    <timestep time="60.00"><vehicle id="a" x="1" y="1" speed="8.00" pos="5.10" edge="BA"/></timestep>
</fcd-export>
"""


def _file(folder: Path, text: str, *, share: float = 1.0) -> OutputFile:
    path = folder / "out.xml"
    path.write_text(text)
    return OutputFile(path, "town", interval_s=60.0, probe_share=share)


def _plain(rows: list[Row]) -> list[tuple[object, ...]]:
    """Return rows in which missing is None, to compare."""
    return [tuple(None if isinstance(v, float) and math.isnan(v) else v for v in row) for row in rows]


def test_loops_tell_counts_mean_speeds_and_occupancy_and_no_vehicle_has_no_speed(tmp_path: Path) -> None:
    assert _plain(list(_file(tmp_path, E1).rows())) == [
        ("one", 0.0, 60.0, 3.0, 14.8, 0.035, SpeedKind.TIME_MEAN, False),
        ("two", 0.0, 60.0, 0.0, None, 0.0, SpeedKind.TIME_MEAN, False),
    ]


def test_areas_tell_who_entered_and_the_mean_over_space(tmp_path: Path) -> None:
    (row,) = _file(tmp_path, E2).rows()
    assert row == ("area", 60.0, 120.0, 4.0, 12.5, 0.05, SpeedKind.SPACE_MEAN, False)


def test_a_mesoscopic_loop_counts_all_lanes(tmp_path: Path) -> None:
    assert _plain(list(_file(tmp_path, MESO).rows())) == [
        ("one", 0.0, 60.0, 4.0, 15.02, pytest.approx(0.0169), SpeedKind.SPACE_MEAN, True),
        ("one", 60.0, 120.0, 0.0, None, 0.0, SpeedKind.SPACE_MEAN, True),
    ]


def test_positions_become_mean_speeds_of_edges(tmp_path: Path) -> None:
    assert _plain(list(_file(tmp_path, FCD).rows())) == [
        ("probe:AB", 0.0, 60.0, None, 15.0, None, SpeedKind.SPACE_MEAN, False),
        ("probe:Main_Street", 0.0, 60.0, None, 0.0, None, SpeedKind.SPACE_MEAN, False),
        ("probe:BA", 60.0, 120.0, None, 8.0, None, SpeedKind.SPACE_MEAN, False),
    ]


def test_a_share_of_the_vehicles_is_always_the_same_vehicles(tmp_path: Path) -> None:
    step = "".join(f'<vehicle id="v{n}" speed="1" lane="e{n}_0"/>' for n in range(1000))
    text = "".join(f'<timestep time="{s}">{step}</timestep>' for s in (0, 60))
    rows = list(_file(tmp_path, f"<fcd-export>{text}</fcd-export>", share=0.1).rows())
    first, second = ({row.detector for row in rows if row.from_s == begin_s} for begin_s in (0.0, 60.0))
    assert first == second
    assert 80 < len(first) < 120


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('nVehContrib="3"', 'nVehContrib="many"', "finite numbers allowed"),
        ('nVehContrib="3"', 'nVehContrib="-3"', "finite numbers allowed"),
        ('end="60.00" id="one"', 'end="0.00" id="one"', "begin before end"),
        ('occupancy="3.50"', 'occupancy="nan"', "finite numbers allowed"),
        ('id="one" ', "", "id, begin"),
        ('nVehContrib="3"', "", "an interval of an E1 or E2 detector allowed"),
    ],
)
def test_an_interval_that_cannot_be_used_is_refused_and_the_others_are_read(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in E1
    file = _file(tmp_path, E1.replace(old, new))
    assert [row.detector for row in file.rows()] == ["two"]
    letter = file.refused.letters["malformed"]
    assert said in letter.detail
    assert "<interval " in letter.detail
    assert (letter.count, letter.topic, letter.stage, letter.source) == (1, "out.xml", "sumo", "town")
    assert letter.offset == 2, "its line"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('speed="10.00"', 'speed="fast"', "id, speed in m/s"),
        ('speed="10.00"', 'speed="-5"', "a speed of 0 or more"),
        (' lane="AB_1"', "", "lane or edge allowed"),
        ('time="0.00"', 'time="noon"', "a time in s allowed"),
    ],
)
def test_a_position_that_cannot_be_used_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FCD
    file = _file(tmp_path, FCD.replace(old, new))
    means = {row.detector: row.speed_ms for row in file.rows()}
    assert means["probe:BA"] == 8.0
    letter = file.refused.letters["malformed"]
    assert said in letter.detail
    assert letter.count == 1


def test_positions_of_a_step_without_a_time_are_left_out(tmp_path: Path) -> None:
    file = _file(tmp_path, FCD.replace('time="30.00"', 'time="noon"'))
    assert {row.detector: row.speed_ms for row in file.rows()} == {"probe:AB": 10.0, "probe:BA": 8.0}


def test_a_file_that_breaks_off_gives_what_came_before(tmp_path: Path) -> None:
    file = _file(tmp_path, E1[: E1.index("</detector>")])
    assert [row.detector for row in file.rows()] == ["one", "two"]
    assert "well-formed XML allowed" in file.refused.letters["malformed"].detail


def test_an_interval_that_goes_back_in_time_is_refused(tmp_path: Path) -> None:
    back = E1.replace('begin="0.00" end="60.00" id="one"', 'begin="60.00" end="120.00" id="one"')
    file = _file(tmp_path, back)
    assert [row.detector for row in file.rows()] == ["one"]
    assert "an end at 60 s after 120 s seen, rising ends allowed" in file.refused.letters["malformed"].detail


@pytest.mark.parametrize("text", ["<net/>", "<tripinfos/>"])
def test_a_file_of_another_kind_ends_the_feed(tmp_path: Path, text: str) -> None:
    with pytest.raises(FeedError, match=r"seen, <detector> \(E1, E2\) or <fcd-export> allowed"):
        _file(tmp_path, text).rows()
