"""The documentation is true: every metric, reason and command stands in it, and every link leads somewhere."""

from __future__ import annotations

import re
from typing import get_args

from citybrain.errors import Reason
from citybrain.metrics import METRICS
from cli.reference import reference
from tests.conftest import ROOT


def test_every_metric_is_documented_with_its_labels_and_meaning() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    for metric in METRICS.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
        assert f"| `{metric.name}` | {metric.kind} | {labels} | {metric.purpose} |" in text


def test_no_metric_is_documented_that_does_not_exist() -> None:
    named = re.findall(r"^\| `(citybrain_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), flags=re.M)
    assert sorted(named) == sorted(METRICS)


def test_every_reason_of_a_dead_letter_is_explained() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert [reason for reason in get_args(Reason) if f"`{reason}`" not in text] == []


def test_the_commands_reference_is_what_the_program_prints() -> None:
    assert (ROOT / "docs" / "commands.md").read_text() == reference()


def test_every_relative_link_in_the_documentation_leads_to_a_file() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    broken = [
        (page.name, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]
    assert broken == []
