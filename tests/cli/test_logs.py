"""Logs: one event a line, as JSON where a program reads them; and every event stands in the documentation."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from cli.logs import configure_logs
from tests.conftest import ROOT

PACKAGES = ("citybrain", "models", "infra", "ingest", "simulators", "streams", "dashboard", "cli")
METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


@pytest.fixture
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.usefixtures("restored")
def test_an_event_is_one_line_of_json_where_no_person_looks_on() -> None:
    stream = io.StringIO()
    configure_logs(to=stream)
    structlog.get_logger().warning("broker_is_away", address="a:1", error='it said "no"\nand went')
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["address"]) == ("broker_is_away", "warning", "a:1")
    assert line["error"] == 'it said "no"\nand went'
    assert line["timestamp"].endswith("Z")


@pytest.mark.usefixtures("restored")
def test_what_a_library_says_is_one_event_too_whatever_signs_are_in_it() -> None:
    stream = io.StringIO()
    configure_logs(to=stream)
    try:
        raise ValueError('a "quoted" word')
    except ValueError:
        # A name of its own: tests of servers before may have set the level of a real one.
        logging.getLogger("some.library").exception("said %s", '"so"\nand more')
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["message"]) == ("library", "some.library", 'said "so"\nand more')
    assert "quoted" in line["exception"]


@pytest.mark.usefixtures("restored")
def test_text_is_for_people_and_information_only_where_asked_for() -> None:
    stream = io.StringIO()
    configure_logs(to=stream, form="text", verbose=True)
    structlog.get_logger().info("run_found", run="r1")
    assert "run_found" in stream.getvalue()
    assert "run=r1" in stream.getvalue()
    quiet = io.StringIO()
    configure_logs(to=quiet, form="json")
    structlog.get_logger().info("run_found", run="r1")
    assert quiet.getvalue() == ""


def events_in_code() -> dict[str, str]:
    """Return each event that is logged anywhere, and a file that does."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in METHODS
                    and _is_logger(node.func.value)
                ):
                    name = node.args[0]
                    assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: the event's name is no constant"
                    found[str(name.value)] = str(path.relative_to(ROOT))
    return found


def _is_logger(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return node.id == "log"
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "structlog.get_logger"


def test_every_event_is_documented_and_none_that_does_not_exist() -> None:
    text = (ROOT / "docs" / "operation.md").read_text()
    section = text.partition("## Logs")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `([^`]+)` \|", section, flags=re.M)) - {"library"}
    code = events_in_code()
    assert sorted(set(code) - told) == [], {name: code[name] for name in set(code) - told}
    assert sorted(told - set(code)) == []


def test_an_event_is_named_in_small_letters_without_spaces() -> None:
    assert [name for name in events_in_code() if not re.fullmatch(r"[a-z][a-z_]+", name)] == []
