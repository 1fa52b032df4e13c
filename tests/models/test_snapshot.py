"""Memories as bytes: the same memory is the same bytes; another network's is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from citybrain.errors import ConfigError
from models.snapshot import Array, dumped, loaded


@given(
    st.dictionaries(st.text(max_size=5), arrays(np.float32, array_shapes(max_dims=3, max_side=4)), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(-(2**60), 2**60), max_size=3),
)
def test_what_is_dumped_is_loaded_to_the_bit(columns: dict[str, Array], numbers: dict[str, int]) -> None:
    blob = dumped("x-1", "net", numbers, columns)
    again, arrays_again = loaded("x-1", "net", blob)
    assert again == numbers
    assert {name: (a.shape, a.tobytes()) for name, a in arrays_again.items()} == {
        name: (a.shape, a.tobytes()) for name, a in columns.items()
    }
    assert dumped("x-1", "net", again, arrays_again) == blob


def test_another_format_or_network_is_refused() -> None:
    blob = dumped("x-1", "net", {}, {})
    with pytest.raises(ConfigError, match="x-1 of network net seen, y-1 of net allowed"):
        loaded("y-1", "net", blob)
    with pytest.raises(ConfigError, match="x-1 of other allowed"):
        loaded("x-1", "other", blob)
    with pytest.raises(ConfigError, match="cannot be read"):
        loaded("x-1", "net", b"junk")
