"""Savepoints: what is written is read again, the form before too, and nothing is ever guessed."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citybrain.errors import ConfigError
from citybrain.settings import Thresholds
from models.snapshot import dumped
from streams.alert import AlertStage
from streams.match import MatchStage
from streams.rollup import Rollup
from streams.savepoint import MARK, Savepoint, described, savepoint_of
from streams.stage import Stage
from tests.fakes import city_settings, grid_network
from tests.streams.build import aggregate

TOPIC, OTHER = uuid.UUID(int=7), uuid.UUID(int=8)


@given(st.integers(0, 2**55), st.binary(min_size=1), st.sampled_from([TOPIC, None]))
def test_what_is_written_is_read_again(offset: int, blob: bytes, topic: uuid.UUID | None) -> None:
    written = Savepoint(offset, blob, topic)
    assert savepoint_of(written.record()) == written


@given(st.integers(0, 2**55), st.binary(min_size=1))
def test_the_form_without_a_header_is_read(offset: int, blob: bytes) -> None:
    assert savepoint_of(offset.to_bytes(8, "little") + blob) == Savepoint(offset, blob, None, 1)


@pytest.mark.parametrize(
    "value", [b"", b"short", bytes(8), MARK + b"\x03\xff" + bytes(40), MARK + b"\x02\xff" + bytes(24)]
)
def test_a_newer_form_and_what_is_cut_short_are_refused(value: bytes) -> None:
    with pytest.raises(ConfigError, match="seen"):
        savepoint_of(value)


def test_it_counts_in_its_own_topic_alone_though_another_of_the_name_has_grown_as_long() -> None:
    assert Savepoint(100, b"x", TOPIC).counts_in(TOPIC, 100)
    assert not Savepoint(100, b"x", TOPIC).counts_in(OTHER, 10_000)
    assert not Savepoint(100, b"x", TOPIC).counts_in(TOPIC, 99)
    # Without an id, on either side, the end alone can tell.
    assert Savepoint(100, b"x", None).counts_in(OTHER, 100)
    assert not Savepoint(100, b"x", None).counts_in(OTHER, 99)
    assert Savepoint(100, b"x", TOPIC).counts_in(None, 100)


def test_every_stage_s_dump_says_its_format_and_network() -> None:
    network, settings = grid_network(), city_settings()
    stages: list[Stage[Any]] = [aggregate(network), Rollup.of(network, settings), MatchStage(network)]
    for stage in stages:
        told = described(stage.dump(stage.new(0)))
        assert told is not None
        assert told[1] == network.version
    alert = AlertStage(network, Thresholds())
    assert described(alert.dump(alert.new(0))) == ("alert-2", network.version)
    assert described(dumped("warn-9", "n1", {}, {})) == ("warn-9", "n1")
    assert described(b"nothing of the kind") is None
