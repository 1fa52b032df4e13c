"""The published JSON Schemas are those of the code: `python -m tests.citybrain.test_schemas` writes them anew."""

from __future__ import annotations

import json

import msgspec
import pytest

from citybrain.messages import AlertEvent, Event, Signals
from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "schemas"
PUBLISHED: dict[str, type[msgspec.Struct]] = {"signals": Signals, "alert": AlertEvent, "event": Event}


def schema(kind: type[msgspec.Struct]) -> str:
    """Return the JSON Schema of a record as text."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(kind)}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_published_schema_is_current(name: str) -> None:
    published = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert published == schema(PUBLISHED[name]), "run python -m tests.citybrain.test_schemas"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, kind in PUBLISHED.items():
        (FOLDER / f"{name}.json").write_text(schema(kind), encoding="utf-8")
