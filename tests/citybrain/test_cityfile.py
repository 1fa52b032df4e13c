"""city.toml: what it may say, and what is said about it when it is wrong."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citybrain.cityfile import load_city, load_network, parse_city
from citybrain.errors import ConfigError
from citybrain.settings import (
    CitySettings,
    ColumnMapping,
    Limits,
    ScriptedIncident,
    SimulatedFeed,
    TableFeed,
    Thresholds,
    TimeSettings,
    Webhook,
)
from citybrain.tomllines import key_lines

SMALL = 'name = "A"\ntimezone = "Europe/Lisbon"\n'

WHOLE = """
name = "Porto"          # as on the screen
name_zh = "波尔图"
timezone = "Europe/Lisbon"
typical_file = "typical.arrow"
retention = "size"

[time]
pane = "5min"
lateness = "1h 30min"

[thresholds]
level_breaks = [0.7, 0.5, 0.4, 0.25]

[[tables]]
name = "pems"
files = "{data}/I5N_*.csv.gz"
detector_column = "station_id"
time_column = "timestamp"
interval = "5min"
timezone = "America/Los_Angeles"
ignore_zone = true
missing = [-1, 999]
keep_where = { is_observed = "1" }

[tables.metrics]
speed_kmh = { column = "speed", unit = "mph" }
flow_vph = { column = "flow", unit = "veh/5min" }

[[simulated]]
seed = 7
speed = 5

[[simulated.scripted]]
segment = "w1-0f"
at = "07:04"

[[webhooks]]
name = "control-room"
url = "https://example.org/hook"
secret_file = "hook.secret"
types = ["alert.opened"]
"""


def _city(folder: Path, text: str) -> CitySettings:
    (folder / "city.toml").write_text(text, encoding="utf-8")
    return load_city(folder)


def _errors(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _city(folder, text)
    return [line.removeprefix(f"{folder.resolve()}/") for line in str(caught.value).splitlines()]


def test_a_city_needs_no_more_than_a_name_and_a_timezone(tmp_path: Path) -> None:
    city = _city(tmp_path, SMALL)
    assert (city.name, city.timezone, city.time) == ("A", "Europe/Lisbon", TimeSettings())
    assert city.data_folder == tmp_path.resolve() / ".citybrain-data"
    assert city.network_path == tmp_path.resolve() / "network.arrow"


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    city = _city(tmp_path, WHOLE)
    assert city.name_zh == "波尔图"
    assert city.time.pane == timedelta(minutes=5)
    assert city.time.lateness == timedelta(minutes=90)
    assert city.thresholds.level_breaks == (0.7, 0.5, 0.4, 0.25)
    (table,) = city.tables
    assert table.missing == (-1.0, 999.0)
    assert table.keep_where == {"is_observed": "1"}
    assert table.metrics == {
        "speed_kmh": ColumnMapping("speed", "mph"),
        "flow_vph": ColumnMapping("flow", "veh/5min"),
    }
    assert city.simulated[0].seed == 7
    assert city.simulated[0].speed == 5.0
    assert city.simulated[0].scripted == (ScriptedIncident("w1-0f", "07:04"),)
    assert city.webhooks[0].types == ("alert.opened",)
    assert city.webhooks[0].secret_file == str(city.data_folder / "hook.secret")


def test_the_data_folder_can_be_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "city.toml").write_text(SMALL)
    assert load_city(tmp_path, data_folder=tmp_path / "x").data_folder == tmp_path.resolve() / "x"


def test_every_error_is_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    errors = _errors(
        tmp_path,
        """name = "A"
timezone = "Europe/Lisbonne"
retention = "forever"
json_edge = "yes"
nmae_zh = "x"

[time]
pane = "7min"
reorder = 10

[[tables]]
name = "t"
files = "*.csv"
detector_column = "d"
time_column = "t"
interval = "5min"
stamp_edge = "middle"
metrics = { speed = { column = "v", unit = "km/h" }, flow_vph = { column = "q", unit = "cars" } }
""",
    )
    assert [line.split(": ")[0:2] for line in errors] == [
        ["city.toml:2", "timezone"],
        ["city.toml:3", "retention"],
        ["city.toml:4", "json_edge"],
        ["city.toml:5", "nmae_zh"],
        ["city.toml:8", "time.pane"],
        ["city.toml:9", "time.reorder"],
        ["city.toml:17", "tables[1].stamp_edge"],
        ["city.toml:18", "tables[1].metrics.flow_vph.unit"],
        ["city.toml:18", "tables[1].metrics.speed"],
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('name = "A"\n', "city.toml:1: timezone: nothing seen, a text allowed"),
        (SMALL + 'retention = "all"', "city.toml:3: retention: 'all' seen, one of 'time', 'size' allowed"),
        (SMALL + 'nam = "x"', "city.toml:3: nam: unknown setting 'nam' seen, 'name' (nearest) allowed"),
        (SMALL + "time = 3", "city.toml:3: time: 3 seen, a table allowed"),
        (
            SMALL + '[time]\npane = "soon"',
            'city.toml:4: time.pane: \'soon\' seen, a duration such as "30s", "1min", "2h" allowed',
        ),
        (
            SMALL + "[thresholds]\nlevel_breaks = [0.5, 0.7, 0.4, 0.3]",
            (
                "city.toml:4: thresholds.level_breaks: [0.5, 0.7, 0.4, 0.3] seen, "
                "four falling ratios between 0 and 1 allowed"
            ),
        ),
        (
            SMALL + "[thresholds]\nlevel_breaks = [0.5]",
            "city.toml:4: thresholds.level_breaks: [0.5] seen, a list of 4 numbers allowed",
        ),
        (
            SMALL + "[[simulated]]\nfaulty_share = 2",
            "city.toml:4: simulated[1].faulty_share: 2 seen, a share from 0 to 1 allowed",
        ),
        (
            SMALL + '[[webhooks]]\nname = "a"\nsecret_file = "s"\nurl = "ftp://x"',
            "city.toml:6: webhooks[1].url: 'ftp://x' seen, an http or https address allowed",
        ),
        (
            SMALL + 'public_url = "https://x.org/page"',
            (
                "city.toml:3: public_url: 'https://x.org/page' seen, an address such as 'https://traffic.example.org' "
                "without a path, or empty allowed"
            ),
        ),
        (
            SMALL + '[[simulated]]\n[[simulated.scripted]]\nsegment = "a"\nat = "7:04"',
            "city.toml:6: simulated[1].scripted[1].at: '7:04' seen, a time of day such as '07:04' allowed",
        ),
        (SMALL + "[limits]\nspeed_kmh = true", "city.toml:4: limits.speed_kmh: True seen, a number allowed"),
        (SMALL + "json_edge = ]", "city.toml:3: 'json_edge = ]' seen, TOML allowed (invalid value)"),
    ],
)
def test_an_error_says_the_line_the_value_seen_and_the_values_allowed(tmp_path: Path, text: str, error: str) -> None:
    assert _errors(tmp_path, text) == [error]


SEEN = """
    1|-1|0|nan|inf|1e400|true|""|"x"|"1min"|"9999999999999h"|"\\u0000"|[]|[1]|[[1]]|["a", 1]|{}|{ a = 1 }|
    2026-01-01|07:00:00|{ column = "a", unit = 3 }|{ speed_kmh = 1 }
"""
VALUES = st.sampled_from([value.strip() for value in SEEN.split("|")])
KEYS = [
    *((cls, f.name, section) for cls, section in ((TimeSettings, "time"), (Limits, "limits")) for f in fields(cls)),
    *((Thresholds, f.name, "thresholds") for f in fields(Thresholds)),
    *((CitySettings, f.name, "") for f in fields(CitySettings)),
    *((TableFeed, f.name, "[tables]") for f in fields(TableFeed)),
    *((SimulatedFeed, f.name, "[simulated]") for f in fields(SimulatedFeed)),
    *((Webhook, f.name, "[webhooks]") for f in fields(Webhook)),
]


@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=4, unique_by=lambda pair: pair[0][1:]))
def test_whatever_stands_in_the_file_it_is_settings_or_a_told_error(
    pairs: list[tuple[tuple[type, str, str], str]],
) -> None:
    at_top = [f"{name} = {value}" for (_, name, section), value in pairs if not section]
    below = [f"[{section}]\n{name} = {value}" for (_, name, section), value in pairs if section]
    said = ""
    try:
        parse_city("\n".join([*at_top, *below]), Path("/nowhere"))
    except ConfigError as error:
        said = str(error)
    assert all(" seen, " in line and line.endswith(("allowed", ")")) for line in said.splitlines())


def test_two_feeds_of_one_name_are_refused(tmp_path: Path) -> None:
    errors = _errors(tmp_path, SMALL + '[[simulated]]\nname = "a"\n[[simulated]]\nname = "a"\n')
    assert errors == [
        "city.toml:4: simulated[1].name: 'a' 2 times seen, one feed of a name allowed",
        "city.toml:6: simulated[2].name: 'a' 2 times seen, one feed of a name allowed",
    ]


def test_a_folder_without_a_city_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no readable city\.toml seen"):
        load_city(tmp_path / "nowhere")


def test_a_city_without_its_network_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"network\.arrow: cannot be read"):
        load_network(_city(tmp_path, SMALL))


def test_lines_are_found_in_nested_tables_and_dotted_keys() -> None:
    lines = key_lines('[a]\nb.c = 1\n[[d]]\nx = 1\n[d.e]\ny = 2\n[[d]]\n"x" = 3\nz = { p = 1, q = 2 }\n')
    assert lines == {
        ("a",): 1,
        ("a", "b", "c"): 2,
        ("d", 0): 3,
        ("d", 0, "x"): 4,
        ("d", 0, "e"): 5,
        ("d", 0, "e", "y"): 6,
        ("d", 1): 7,
        ("d", 1, "x"): 8,
        ("d", 1, "z"): 9,
        ("d", 1, "z", "p"): 9,
        ("d", 1, "z", "q"): 9,
    }


def test_a_scenario_file_lies_in_the_city_folder_and_a_ready_one_is_named(tmp_path: Path) -> None:
    feeds = '[[simulated]]\nname = "a"\nscenario = "mine.toml"\n[[simulated]]\nname = "b"\nscenario = "storm"\n'
    city = parse_city(f'name = "Porto"\ntimezone = "Europe/Lisbon"\n{feeds}', tmp_path)
    assert [feed.scenario for feed in city.simulated] == [str(tmp_path.resolve() / "mine.toml"), "storm"]


def test_a_sumo_feed_is_driven_or_read_from_files() -> None:
    text = SMALL + '[[sumo]]\nname = "s"\nstart = "2026-04-02T06:00"\n'
    (driven,) = parse_city(text + 'config = "t.sumocfg"\ninterval = "30s"\nprobe_share = 0.05\n', Path("/c")).sumo
    assert (driven.config, driven.interval, driven.probe_share) == ("t.sumocfg", timedelta(seconds=30), 0.05)
    (read,) = parse_city(text + 'files = "*.xml"\n', Path("/c")).sumo
    assert (read.files, read.probe_share) == ("*.xml", 1.0)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "sumo[1]: neither config nor files seen, one of them allowed"),
        ('config = "a"\nfiles = "b"', "sumo[1]: config and files seen, one of them allowed"),
        ('config = "a"\nprobe_share = 1.5', "probe_share: 1.5 seen, a share from 0 to 1 allowed"),
        ('config = "a"\ninterval = "0s"', "interval: '0s' seen, a duration of a second or more allowed"),
    ],
)
def test_a_sumo_feed_that_cannot_be_is_refused(lines: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_city(f'{SMALL}[[sumo]]\nname = "s"\nstart = "2026-04-02T06:00"\n{lines}\n', Path("/c"))
    assert said in str(error.value)


@pytest.mark.parametrize("start", ["noon", "2026-04-02T06:00Z", "06:00"])
def test_a_sumo_feed_begins_at_a_local_time(start: str) -> None:
    with pytest.raises(ConfigError, match=f"start: '{start}' seen, a local time without a zone"):
        parse_city(f'{SMALL}[[sumo]]\nname = "s"\nstart = "{start}"\nfiles = "a"\n', Path("/c"))
