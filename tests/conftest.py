"""Fixtures for all tests: where the shared data is, and a real broker (see `tests.broker`)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.broker import broker, fresh_topics, jars_folder
from tests.infra.influx import influx

__all__ = ["broker", "fresh_topics", "influx", "jars_folder", "shared_data"]

ROOT = Path(__file__).resolve().parent.parent


def shared_data(name: str) -> Path:
    """Return a folder or file of the shared data, or skip with the reason."""
    folder = Path(os.environ.get("CITYBRAIN_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / name).exists():
        pytest.skip(f"needs the shared data {name!r}, which this machine does not have")
    return folder / name
