"""The typical week: what is learnt, what is filled in, and how a shipped week fades."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from citybrain.errors import ModelError
from citybrain.typical import AREA_METRICS
from models.typical import blend, learn, of_segments, shrunk
from tests.fakes import corridor_network, typical_week

NETWORK = corridor_network(2)


def _segments(*rows: tuple[int, int, int, float, float]) -> pd.DataFrame:
    columns = ["segment", "day_type", "bin", "n", "speed_kmh"]
    return pd.DataFrame(rows, columns=columns).assign(speed_sd_kmh=4.0, flow_vph=900.0)


def _areas(*rows: tuple[int, int, int, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["area", "day_type", "bin", "tpi"]).assign(n=5.0)
    for metric in AREA_METRICS:
        frame[metric] = frame["tpi"]
        frame[f"{metric}_sd"] = 0.5
    return frame


def test_a_cell_that_was_seen_is_what_was_seen() -> None:
    typical = learn(_segments((0, 0, 32, 75, 40.0)), _areas((0, 0, 32, 5.5)), NETWORK, "observed")
    assert typical.speed_kmh[0, 32, 0] == 40
    assert typical.speed_sd_kmh[0, 32, 0] == 4
    assert typical.flow_vph[0, 32, 0] == 900
    assert typical.n[0, 32, 0] == 75
    assert typical.area_mean[AREA_METRICS.index("tpi"), 0, 32, 0] == 5.5
    assert typical.area_sd[0, 0, 32, 0] == 0.5
    assert (typical.network, typical.made_of) == (NETWORK.version, "observed")


def test_a_gap_takes_the_nearest_bins_and_counts_no_observation() -> None:
    typical = learn(_segments((0, 0, 32, 75, 40.0), (0, 0, 34, 75, 60.0)), _areas(), NETWORK, "observed")
    assert typical.speed_kmh[0, 33, 0] == 50
    assert typical.speed_kmh[0, 36, 0] == 60
    assert typical.n[0, 33, 0] == 0


def test_a_day_type_never_seen_takes_the_most_alike() -> None:
    typical = learn(_segments((0, 0, 32, 75, 40.0), (0, 2, 32, 75, 80.0)), _areas(), NETWORK, "observed")
    assert typical.speed_kmh[1, 32, 0] == 80


def test_nothing_is_made_up_where_nothing_is_known() -> None:
    typical = learn(_segments((0, 0, 32, 75, 40.0)), _areas(), NETWORK, "observed")
    assert np.isnan(typical.speed_kmh[0, 60, 0])
    assert np.isnan(typical.speed_kmh[:, :, 1]).all()
    assert np.isnan(typical.area_mean).all()


def test_a_segment_outside_the_network_is_refused() -> None:
    with pytest.raises(ModelError, match=r"segment 2\.\.2 seen, 0\.\.1 allowed"):
        learn(_segments((2, 0, 32, 75, 40.0)), _areas(), NETWORK, "observed")


def test_the_shipped_week_fades_as_the_store_fills() -> None:
    shipped = typical_week(NETWORK, share=0.5)
    few = learn(_segments((0, 0, 32, 25, 90.0)), _areas((0, 0, 32, 9.0)), NETWORK, "observed")
    mixed = blend(shipped, few)
    assert mixed.speed_kmh[0, 32, 0] == pytest.approx(45 * 0.75 + 90 * 0.25)
    assert mixed.speed_kmh[0, 60, 0] == 45
    assert mixed.n[0, 32, 0] == 100
    assert mixed.made_of == "simulated"


def test_a_week_that_is_mostly_observed_says_so() -> None:
    shipped = typical_week(NETWORK, share=0.5)
    rows = [(s, d, b, 750.0, 90.0) for s in range(2) for d in range(3) for b in range(96)]
    mixed = blend(shipped, learn(_segments(*rows), _areas(), NETWORK, "observed"))
    assert mixed.made_of == "observed"
    assert mixed.speed_kmh[1, 5, 1] == pytest.approx(45 / 11 + 90 * 10 / 11)


def test_weeks_of_two_networks_do_not_blend() -> None:
    with pytest.raises(ModelError, match="one network allowed"):
        blend(typical_week(NETWORK), typical_week(corridor_network(3)))


def test_few_days_are_drawn_towards_the_mean_of_the_day() -> None:
    share = np.where(np.arange(96) < 48, 1.0, 0.5)
    typical = typical_week(NETWORK, share=share)
    segment = np.array([1], dtype=np.int32)
    one_day = shrunk(typical, segment, np.ones((3, 96, 1), dtype=np.float32))
    assert one_day.speed_kmh[0, 0, 0] == pytest.approx((67.5 + 90) / 2)
    many = shrunk(typical, segment, np.full((3, 96, 1), 1e6, dtype=np.float32))
    assert many.speed_kmh[0, :, 0] == pytest.approx(of_segments(typical, segment).speed_kmh[0, :, 0], abs=0.01)
