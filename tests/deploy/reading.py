"""Reads the files in ``infra/deploy``, and tells whether what they run is a command of ours."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click
import yaml

from cli.main import program
from tests.conftest import ROOT

DEPLOY = ROOT / "infra" / "deploy"
PINNED = r"(?:[a-z0-9.-]+(?::\d+)?/)?(?:[a-z0-9._-]+/)*[a-z0-9._-]+:(?!latest)[\w.-]*\d[\w.-]*(?:@sha256:[0-9a-f]{64})?"
"""An image with a tag that has a number in it, or a digest, too."""

jsonschema: Any = importlib.import_module("jsonschema")  # brings no types


def documents(path: Path) -> list[Any]:
    """Return the YAML documents of a file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each is not None]


def parsed(arguments: list[str]) -> dict[str, Any]:
    """Return what the program makes of arguments, ``command`` included; raises where it would refuse them."""
    command: click.Command = program
    context, rest, names = click.Context(program), list(arguments), list[str]()
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        names.append(str(name))
        command = found
    parameters = command.make_context(" ".join(names), rest, parent=context).params
    return {"command": " ".join(names), **parameters}
