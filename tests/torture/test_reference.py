"""The reference and the feed, without a broker: two ways to compute the same come to the same bits."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from citybrain.settings import CitySettings
from streams.aggregate import Aggregate
from streams.offline import run
from streams.rollup import Rollup
from streams.stage import Message, Stage
from tests.fakes import city_settings
from tests.streams.build import Newest
from tests.torture.city import network_of
from tests.torture.feed import Feed, Sent
from tests.torture.log import Logged
from tests.torture.measures import State, areas_of, states_of
from tests.torture.plan import Plan
from tests.torture.reference import Expected, expected

PLAN = Plan(kills=0, seed=5, minutes=0.6)
NETWORK = network_of(PLAN)
START_MS = 1_790_000_040_000 // 60_000 * 60_000


def city() -> CitySettings:
    """Return settings without a judgement on the length of vehicles: the drawn occupancies belong to none."""
    settings = city_settings()
    return replace(settings, limits=replace(settings.limits, shortest_vehicle_m=0.0))


def logged(messages: list[Sent]) -> list[Logged]:
    """Return the readings as a broker would hold them."""
    next_offset: Counter[int] = Counter()
    log = []
    for sent in messages:
        if sent.topic == "readings":
            log.append(
                Logged("readings", sent.partition, next_offset[sent.partition], sent.at_ms, sent.key, sent.value)
            )
            next_offset[sent.partition] += 1
    return log


@pytest.fixture(scope="module")
def log() -> list[Logged]:
    return logged(Feed(PLAN, NETWORK, START_MS).messages())


@pytest.fixture(scope="module")
def wanted(log: list[Logged]) -> Expected:
    return expected(log, NETWORK, city())


@pytest.fixture(scope="module")
def seen(log: list[Logged]) -> Newest:
    newest = Newest()
    stages: list[Stage[Any]] = [Aggregate.of(NETWORK, city()), Rollup.of(NETWORK, city())]
    messages = [Message("readings", m.partition, m.offset, m.record_ms, m.key, m.value) for m in log]
    run(stages, messages, newest)
    return newest


def same(seen: float, wanted: float) -> bool:
    return bool(seen == wanted) or (math.isnan(seen) and math.isnan(wanted))


def differing(row: State, of: object, at: int) -> list[str]:
    return [name for name, value in row.items() if not same(getattr(of, name)[at], value)]


def test_the_same_seed_sends_the_same_bytes_and_another_one_others() -> None:
    def sent(seed: int) -> list[Sent]:
        plan = replace(PLAN, seed=seed)
        return Feed(plan, network_of(plan), START_MS).messages()

    assert sent(5) == sent(5)
    assert sent(5) != sent(6)


def test_the_feed_is_as_wrong_as_it_says(log: list[Logged], wanted: Expected) -> None:
    refused: Counter[str] = Counter()
    for (_, _, reason), count in wanted.letters.items():
        refused[reason] += count
    assert set(refused) == {
        "late", "duplicate", "future", "out_of_range", "unknown_detector", "malformed", "network_version"
    }  # fmt: skip
    poison = sum(refused[r] for r in ("out_of_range", "unknown_detector", "malformed"))
    assert 0.002 < poison / len(wanted.counted) < 0.02
    assert 0.003 < refused["late"] / len(wanted.counted) < 0.04
    assert len(wanted.counted) > 5_000


def test_every_state_of_a_segment_is_bit_for_bit_what_plain_arithmetic_gives(seen: Newest, wanted: Expected) -> None:
    rows = states_of(wanted, NETWORK, city())
    told = {
        (int(segment), start): (states, at)
        for (_, start), states in seen.states.items()
        for at, segment in enumerate(states.segment)
    }
    assert told.keys() == rows.keys()
    wrong = {place: bad for place, (states, at) in told.items() if (bad := differing(rows[place], states, at))}
    assert not wrong


def test_every_index_of_an_area_is_bit_for_bit_what_plain_arithmetic_gives(seen: Newest, wanted: Expected) -> None:
    rows = areas_of(states_of(wanted, NETWORK, city()), NETWORK)
    told = {(int(area), start): (of, at) for start, of in seen.areas.items() for at, area in enumerate(of.area)}
    assert told.keys() == rows.keys()
    assert not {place for place, (of, at) in told.items() if differing(rows[place], of, at)}


def test_what_is_refused_is_refused_by_the_reference_for_the_same_reason(seen: Newest, wanted: Expected) -> None:
    assert Counter({(m.partition, m.offset, m.reason): m.count for m in seen.letters}) == wanted.letters
