"""Our top-level names are generic: no other installed distribution may claim one, and the wheel holds them all."""

from __future__ import annotations

import tomllib
from importlib.metadata import packages_distributions

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_no_other_distribution_claims_one_of_our_names() -> None:
    owners = packages_distributions()
    assert {name: owners.get(name, []) for name in PACKAGES if set(owners.get(name, [])) - {"citybrain"}} == {}


def test_the_wheel_holds_every_package_of_the_project() -> None:
    there = {
        folder.name
        for folder in ROOT.iterdir()
        if (folder / "__init__.py").exists() and folder.name not in {"tests", "benchmarks"}
    }
    assert there == set(PACKAGES)


def test_the_lock_names_no_index_and_every_requirement_has_hashes() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert [line for line in lines if "://" in line or "--index" in line] == []
    pins = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert pins
    assert [pin for pin in pins if not pin.endswith("\\")] == []
