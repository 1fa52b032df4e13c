"""docs/settings.md names every setting with its default, and no other."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta

import pytest

from citybrain import settings
from citybrain.cityfile import parse_city
from citybrain.settings import (
    CitySettings,
    ColumnMapping,
    KafkaSettings,
    Limits,
    ScriptedIncident,
    SimulatedFeed,
    StoreSettings,
    SumoFeed,
    TableFeed,
    Thresholds,
    TimeSettings,
    Webhook,
)
from citybrain.tomlrecords import parse_duration
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
SECTIONS: dict[type, str] = {
    CitySettings: "## The city",
    KafkaSettings: "## `[kafka]`",
    StoreSettings: "## `[store]`",
    TimeSettings: "## `[time]`",
    Limits: "## `[limits]`",
    Thresholds: "## `[thresholds]`",
    TableFeed: "## `[[tables]]`",
    ColumnMapping: "| setting of a metric",
    SimulatedFeed: "## `[[simulated]]`",
    ScriptedIncident: "### `[[simulated.scripted]]`",
    SumoFeed: "## `[[sumo]]`",
    Webhook: "## `[[webhooks]]`",
}


def _rows(section: str) -> dict[str, str]:
    """Return setting and default of each row of a section's table."""
    text = PAGE.split(section, 1)[1].split("\n## ")[0].split("\n### ")[0].split("| setting of a metric")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, flags=re.M))


def test_every_dataclass_of_the_settings_has_its_section() -> None:
    made = {cls for cls in vars(settings).values() if isinstance(cls, type) and dataclasses.is_dataclass(cls)}
    assert made == set(SECTIONS)


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: cls.__name__)
def test_every_setting_is_documented_with_its_default(cls: type) -> None:
    rows = _rows(SECTIONS[cls])
    assert sorted(rows) == sorted(f.name for f in dataclasses.fields(cls))
    for f in dataclasses.fields(cls):
        shown = rows[f.name]
        if shown == "needed":
            assert f.default is dataclasses.MISSING, f.name
            assert f.default_factory is dataclasses.MISSING, f.name
        elif isinstance(f.default, timedelta):
            assert parse_duration(shown.strip('`"')) == f.default, f.name
        elif isinstance(f.default, bool):
            assert shown == f"`{str(f.default).lower()}`"
        elif isinstance(f.default, int | float):
            assert float(shown.strip("`")) == f.default, f.name
        elif isinstance(f.default, str):
            assert shown == f'`"{f.default}"`', f.name


def test_the_examples_on_the_page_are_read_without_an_error() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.S)
    assert len(blocks) == 3
    city = parse_city("\n".join(blocks), ROOT)
    assert city.tables[0].missing == (-1.0,)
    assert city.simulated[0].trips == 350_000
