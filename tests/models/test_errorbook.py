"""The book of errors: counts in, quantiles and probabilities out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citybrain.records import HORIZONS_MIN
from models.errorbook import BANDS, ErrorBook

HORIZONS = np.array(HORIZONS_MIN, dtype=np.float32)


def _book(errors: np.ndarray[tuple[int], np.dtype[np.float32]], mean: float = 0.72, horizon: int = 2) -> ErrorBook:
    book = ErrorBook.prior(HORIZONS)
    book.fade(1e-9)
    band = np.full(len(errors), BANDS.of(np.array([mean], dtype=np.float32))[0])
    book.add(band, np.full(len(errors), horizon), errors)
    return book


def test_quantiles_bias_and_probability_are_those_of_the_errors_seen() -> None:
    rng = np.random.default_rng(1)
    errors = rng.normal(-0.05, 0.1, 20_000).astype(np.float32)
    book, band = _book(errors), BANDS.of(np.full((1, 12), 0.72, dtype=np.float32))
    low, middle, high = (float(values[0, 2]) for values in book.quantiles(band))
    assert (low, middle, high) == pytest.approx(np.quantile(errors, [0.1, 0.5, 0.9]).tolist(), abs=0.005)
    assert book.bias(band)[0, 2] == pytest.approx(errors.mean(), abs=0.005)
    margin = np.full((1, 12), -0.22, dtype=np.float32)
    assert book.probability_below(band, margin)[0, 2] == pytest.approx(np.mean(errors <= -0.22), abs=0.005)


def test_forecasts_of_another_speed_are_judged_apart() -> None:
    book = _book(np.full(100, -0.3, dtype=np.float32), mean=0.72)
    free = BANDS.of(np.full((1, 12), 0.97, dtype=np.float32))
    assert abs(book.bias(free)[0, 2]) < 0.01


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=50), st.floats(0, 1.25, width=32))
def test_whatever_came_quantiles_are_ordered_and_probabilities_are_shares(errors: list[float], mean: float) -> None:
    book = ErrorBook.prior(HORIZONS)
    band = np.full(len(errors), BANDS.of(np.array([mean], dtype=np.float32))[0])
    book.add(band, np.zeros(len(errors), dtype=np.intp), np.array(errors, dtype=np.float32))
    bands = BANDS.of(np.full((1, 12), mean, dtype=np.float32))
    low, middle, high = book.quantiles(bands)
    assert (low <= middle).all()
    assert (middle <= high).all()
    p = book.probability_below(bands, np.full((1, 12), 0.5 - mean, dtype=np.float32))
    assert ((p >= 0) & (p <= 1)).all()
