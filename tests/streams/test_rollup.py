from __future__ import annotations

import numpy as np
import pytest

from citybrain.errors import BadRecord, ConfigError
from citybrain.network import Network
from citybrain.records import AreaIndices, AreaPartials, decode, encode
from streams.rollup import Rollup, Totals
from streams.stage import Message, Results
from tests.fakes import city_settings, grid_network
from tests.streams.build import MIN, T0

NETWORK = grid_network(2, 2)
LENGTH_MM = 4 * 500_000


def partials(
    partition: int,
    *,
    pane: int = 0,
    version: int = 10,
    revision: int = 0,
    status: str = "closed",
    vkt: float = 10.0,
    vht: float = 0.5,
    network: Network = NETWORK,
) -> bytes:
    """Return a contribution to the city alone."""

    def one(value: float) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        return np.array([round(value)], dtype=np.int64)

    record = AreaPartials(
        network.version,
        partition,
        T0 + pane * MIN,
        MIN,
        version,
        revision,
        status,  # type: ignore[arg-type]
        np.array([0], dtype=np.int32),
        vkt=one(vkt * 1e9),
        vht=one(vht * 1e12),
        vht_free_flow=one(0.25 * 1e12),
        delay=one((vht - 0.25) * 1e12),
        vehicles=one(12e6),
        length_mm=one(LENGTH_MM),
        observed_mm=one(LENGTH_MM / 2),
        level0_mm=one(LENGTH_MM / 2),
        level1_mm=one(0),
        level2_mm=one(0),
        level3_mm=one(LENGTH_MM / 2),
        level4_mm=one(0),
        level5_mm=one(0),
    )
    return encode(record)


class Driven:
    """The stage, fed by hand."""

    def __init__(self) -> None:
        self.stage = Rollup.of(NETWORK, city_settings())
        self.state: Totals = self.stage.new(0)
        self.offset = -1

    def send(self, value: bytes) -> list[AreaIndices]:
        self.offset += 1
        return told(self.stage.step(self.state, Message("area-partials", 0, self.offset, T0, b"", value)))

    def flush(self) -> list[AreaIndices]:
        return told(self.stage.flush(self.state))


def told(results: Results) -> list[AreaIndices]:
    return [decode(AreaIndices, output.value) for output in results.outputs]


def test_a_pane_is_told_when_every_partition_has_closed_it() -> None:
    driven = Driven()
    assert driven.send(partials(0)) == []
    (city,) = driven.send(partials(1))
    assert (city.version, city.revision, city.status) == (1, 0, "closed")
    assert city.vkt_veh_km[0] == 20.0
    assert city.speed_kmh[0] == pytest.approx(20.0)
    assert (city.tti[0], city.dtp[0], city.tpi[0]) == (pytest.approx(2.0), pytest.approx(0.5), pytest.approx(4.0))
    assert city.delay_veh_h[0] == pytest.approx(0.5)
    assert (city.coverage[0], city.length_km[0], city.congested_km[0]) == (0.5, 4.0, 2.0)


def test_ratios_come_from_totals_and_are_missing_without_flow() -> None:
    driven = Driven()
    driven.send(partials(0, vkt=30.0, vht=0.5))
    (city,) = driven.send(partials(1, vkt=10.0, vht=1.5))
    assert city.speed_kmh[0] == pytest.approx(20.0)
    assert np.isnan(city.speed_kmh[1])
    assert np.isnan(city.tpi[1])
    assert city.level0_km[1] == city.length_km[1]


def test_a_contribution_is_replaced_and_never_added() -> None:
    driven = Driven()
    driven.send(partials(0))
    driven.send(partials(0))
    (city,) = driven.send(partials(1))
    assert city.vkt_veh_km[0] == 20.0
    assert driven.send(partials(1, version=12, revision=1, vkt=15.0)) == []
    (revised,) = driven.flush()
    assert (revised.vkt_veh_km[0], revised.revision) == (25.0, 1)
    driven.send(partials(1, version=11, revision=1, vkt=99.0))
    assert driven.flush() == []


def test_a_partition_that_left_a_pane_out_holds_nothing_back() -> None:
    driven = Driven()
    driven.send(partials(0, pane=0))
    driven.send(partials(0, pane=1))
    panes = driven.send(partials(1, pane=1))
    assert [(city.pane_start_ms - T0) // MIN for city in panes] == [0, 1]
    assert [city.vkt_veh_km[0] for city in panes] == [10.0, 20.0]


def test_a_final_revision_makes_the_pane_final() -> None:
    driven = Driven()
    driven.send(partials(0))
    driven.send(partials(1))
    driven.send(partials(1, version=12, revision=1, status="final"))
    assert [city.status for city in driven.flush()] == ["final"]


def test_what_was_not_told_when_no_more_can_come_is_told_with_the_next_pane() -> None:
    driven = Driven()
    for pane in range(60):
        driven.send(partials(0, pane=pane, version=10 + pane))
        outputs = driven.send(partials(1, pane=pane, version=10 + pane))
        if pane == 0:
            driven.send(partials(1, version=11, revision=1, vkt=15.0))
        if any(city.revision for city in outputs):
            break
    assert [city.revision for city in outputs] == [0, 1]
    assert len(driven.state.panes) < 50


def test_memory_is_bounded_while_a_partition_is_missing() -> None:
    driven = Driven()
    panes = [driven.send(partials(0, pane=pane)) for pane in range(1500)]
    assert len(driven.state.panes) < 1490
    assert panes[-1] != []


def test_a_dump_that_is_loaded_goes_on_as_if_nothing_had_happened() -> None:
    whole, broken = Driven(), Driven()
    script = [partials(0), partials(0, pane=1), partials(1), partials(1, version=12, revision=1), partials(1, pane=1)]
    for value in script:
        blob = broken.stage.dump(broken.state)
        broken.state = broken.stage.load(0, blob)
        assert broken.stage.dump(broken.state) == blob
        assert list(map(encode, whole.send(value))) == list(map(encode, broken.send(value)))
    assert list(map(encode, whole.flush())) == list(map(encode, broken.flush()))


def test_another_network_or_partition_is_refused() -> None:
    driven = Driven()
    with pytest.raises(BadRecord, match="network_version"):
        driven.send(partials(0, network=grid_network(3, 3)))
    with pytest.raises(BadRecord, match=r"partition 2 seen, 0\.\.1 allowed"):
        driven.send(partials(2))
    blob = Rollup.of(grid_network(3, 3), city_settings()).dump(Totals())
    with pytest.raises(ConfigError, match="remove the topic"):
        driven.stage.load(0, blob)
    with pytest.raises(ConfigError, match="remove the topic"):
        driven.stage.load(0, b"")
