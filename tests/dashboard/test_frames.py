from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dashboard.live import frames
from dashboard.live.frames import Layer

Bytes = npt.NDArray[np.uint8]
few_levels = hnp.arrays(np.uint8, 600, elements=st.integers(0, 1))


@given(before=few_levels, after=few_levels)
def test_a_delta_turns_the_layer_before_into_the_layer_after(before: Bytes, after: Bytes) -> None:
    frame = frames.decode(frames.delta(Layer.LEVEL_30, 7, before, after))
    shown = before.copy()
    shown[frame.index] = frame.values
    assert (shown == after).all()
    assert (frame.layer, frame.version) == (Layer.LEVEL_30, 7)


@pytest.mark.parametrize("gap", [0, 1, 254, 255, 256, 509, 510, 511, 900])
def test_a_gap_of_any_length_finds_its_segment(gap: int) -> None:
    before = np.zeros(1000, dtype=np.uint8)
    after = before.copy()
    after[gap] = 255
    frame = frames.decode(frames.delta(Layer.LEVEL, 1, before, after))
    assert frame.kind == frames.DELTA
    assert frame.index.tolist() == [gap]
    assert frame.values.tolist() == [255]


def test_a_gap_of_255_is_a_skip_without_a_value_as_the_page_reads_it() -> None:
    before = np.zeros(600, dtype=np.uint8)
    after = before.copy()
    after[[3, 259]] = 5
    payload = frames.delta(Layer.LEVEL, 1, before, after)[8:]
    assert list(payload) == [3, 5, 255, 0, 5]


def test_a_layer_of_which_most_changed_is_sent_whole() -> None:
    frame = frames.decode(frames.delta(Layer.SPEED, 2, np.zeros(50, np.uint8), np.arange(50, dtype=np.uint8)))
    assert frame.kind == frames.SNAPSHOT
    assert frame.values.tolist() == list(range(50))


def test_a_tick_of_ten_thousand_segments_is_under_two_kilobytes() -> None:
    generator = np.random.default_rng(1)
    before = generator.integers(1, 6, 10_000).astype(np.uint8)
    after = before.copy()
    changed = generator.choice(10_000, 600, replace=False)
    after[changed] = after[changed] % 5 + 1
    assert len(frames.delta(Layer.LEVEL, 1, before, after)) < 2000


def test_a_frame_of_another_kind_or_cut_short_is_refused() -> None:
    with pytest.raises(ValueError, match="frame kind: 9 seen"):
        frames.decode(frames.HEADER.pack(9, 0, 0, 1))
    with pytest.raises(ValueError, match="without its value"):
        frames.decode(frames.HEADER.pack(frames.DELTA, 0, 0, 1) + b"\x03")
