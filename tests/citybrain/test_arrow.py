"""What is written is what pyarrow writes, and what is read is what pyarrow reads, at the first time and later."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citybrain.arrow import Codec, Column, schema_of, texts_of
from citybrain.errors import BadRecord
from citybrain.records import Forecasts, Readings, SegmentStates, decode, encode
from tests.conftest import ROOT
from tests.fakes import forecasts, grid_network, segment_states
from tests.streams.build import readings

Arrays = list[np.ndarray[Any, Any]]

COLUMNS = (
    Column("id", np.dtype(np.int32)),
    Column("speed", np.dtype(np.float64)),
    Column("level", np.dtype(np.uint8)),
    Column("ahead", np.dtype(np.float32), 3),
)
NETWORK = grid_network()


def arrays(rows: int, seed: int = 0, *, speeds: str = "all") -> Arrays:
    rng = np.random.default_rng(seed)
    speed = rng.uniform(0, 100, rows)
    speed[{"all": slice(0, 0), "some": slice(0, rows // 2), "none": slice(None)}[speeds]] = np.nan
    ahead = rng.uniform(0, 100, (rows, 3)).astype(np.float32)
    return [
        rng.integers(0, 99, rows).astype(np.int32),
        speed,
        rng.integers(0, 5, rows).astype(np.uint8),
        ahead,
    ]


def by_pyarrow(given: Arrays, texts: dict[str, str]) -> bytes:
    kept = {column.name: array for column, array in zip(COLUMNS, given, strict=True) if column.name != "speed"}
    if not (len(given[1]) and np.isnan(given[1]).all()):
        kept = {"id": given[0], "speed": given[1], "level": given[2], "ahead": given[3]}
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), 3) if array.ndim == 2 else pa.array(array)
        for array in kept.values()
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=list(kept)).replace_schema_metadata(texts)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def read(codec: Codec, value: bytes | memoryview) -> Arrays:
    return codec.read(value, schema_of(value))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["all", "some", "none"]), st.text()), min_size=1))
def test_the_bytes_are_those_of_pyarrow_whatever_was_written_before(batches: list[tuple[int, str, str]]) -> None:
    codec = Codec(COLUMNS)
    for seed, (rows, speeds, text) in enumerate(batches):
        given_, texts = arrays(rows, seed, speeds=speeds), {"a": text, "b": str(seed)}
        value = codec.write(given_, texts)
        assert value == by_pyarrow(given_, texts)
        assert texts_of(schema_of(value)) == texts
        assert codec.open(value) == (schema_of(value), texts)
        for wanted, seen in zip(given_, read(codec, value), strict=True):
            assert seen.dtype == wanted.dtype
            np.testing.assert_array_equal(seen, wanted)


def test_what_differs_only_in_its_texts_is_opened_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec(COLUMNS)
    values = [by_pyarrow(arrays(8), {"at": str(at), "of": name}) for at, name in ((10, "a"), (11, "b"), (10, "ü"))]
    first = codec.open(values[0])
    monkeypatch.setattr("citybrain.arrow.schema_of", lambda value: pytest.fail("asked again"))
    schema, texts = codec.open(memoryview(values[1]))
    assert texts == {"at": "11", "of": "b"}
    assert schema.equals(first[0])
    monkeypatch.undo()
    assert codec.open(values[2])[1] == {"at": "10", "of": "ü"}


@pytest.mark.parametrize("at", range(0, 24, 4))
def test_a_stream_that_begins_in_another_way_does_not_pass_for_a_known_one(at: int) -> None:
    codec, value = Codec(COLUMNS), by_pyarrow(arrays(8), {"a": "1"})
    codec.open(value)
    broken = value[:at] + b"\x7f\x7f\x7f\x7f" + value[at + 4 :]
    with pytest.raises(ValueError, match="no Arrow stream"):
        codec.open(broken)


def test_texts_that_are_not_utf_8_are_refused_each_time() -> None:
    codec, value = Codec(COLUMNS), by_pyarrow(arrays(8), {"a": "ok"})
    codec.open(value)
    for _ in range(2):
        with pytest.raises(ValueError, match="utf-8"):
            codec.open(value.replace(b"ok", b"\xff\xff"))


def test_columns_that_are_no_whole_arrays_are_written_alike() -> None:
    codec, whole = Codec(COLUMNS), arrays(20)
    every_second = [array[::2] for array in whole]
    for _ in range(2):
        assert codec.write(every_second, {}) == by_pyarrow([array.copy() for array in every_second], {})


def test_writing_does_not_load_pandas() -> None:
    # A process that only sends, such as ingest, would pay for it with half a second and 40 MB.
    script = (
        "import sys; from citybrain.records import encode; from ingest.publish import heartbeat;"
        "encode(heartbeat('n', 's', 1, 1)); sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_a_column_of_another_length_is_refused_though_its_form_is_known() -> None:
    codec, good = Codec(COLUMNS), arrays(8)
    codec.write(good, {})
    with pytest.raises(ValueError, match="length"):
        codec.write([good[0], good[1][:7], *good[2:]], {})


def test_a_column_of_another_type_does_not_pass_for_a_known_form() -> None:
    codec, good = Codec(COLUMNS), arrays(8)
    read(codec, codec.write(good, {}))
    other = codec.write([good[0].astype(np.float32), *good[1:]], {})
    with pytest.raises(ValueError, match="column id: float32 x 8 seen"):
        read(codec, other)
    assert codec.write(good, {}) == by_pyarrow(good, {})


def test_the_same_columns_under_other_names_are_missing() -> None:
    codec = Codec(COLUMNS)
    value = codec.write(arrays(8), {})
    read(codec, value)
    with pytest.raises(ValueError, match="column level is missing"):
        read(codec, value.replace(b"level", b"lever"))


@pytest.mark.parametrize("known", [False, True])
def test_a_cut_stream_is_refused_wherever_it_is_cut(known: bool) -> None:
    codec, value = Codec(COLUMNS), by_pyarrow(arrays(8), {})
    if known:
        read(codec, value)
    for end in range(len(value) - 8):
        with pytest.raises(ValueError, match="no Arrow stream"):
            read(codec, value[:end])


def test_compressed_batches_and_views_are_read_as_well() -> None:
    codec, given_ = Codec(COLUMNS), arrays(1000)
    batch = pa.ipc.open_stream(by_pyarrow(given_, {})).read_next_batch()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    for value in (sink.getvalue().to_pybytes(), memoryview(by_pyarrow(given_, {}))):
        for _ in range(2):
            for wanted, seen in zip(given_, read(codec, value), strict=True):
                np.testing.assert_array_equal(seen, wanted)


def test_nulls_are_refused_each_time() -> None:
    codec = Codec(COLUMNS[:1])
    batch = pa.RecordBatch.from_arrays([pa.array([1, None], pa.int32())], names=["id"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    for _ in range(2):
        with pytest.raises(ValueError, match="column id: 1 nulls seen"):
            read(codec, sink.getvalue().to_pybytes())


@pytest.mark.parametrize("record", [segment_states(NETWORK), forecasts(NETWORK), readings(NETWORK, [(0, 0, 30, {})])])
def test_a_record_comes_back_from_its_bytes(record: SegmentStates | Forecasts | Readings) -> None:
    for _ in range(2):
        back: Any = decode(type(record), encode(record))  # type: ignore[type-var]
        for f in fields(record):
            np.testing.assert_array_equal(getattr(back, f.name), getattr(record, f.name))


def test_a_record_of_another_kind_or_with_a_bad_scalar_is_malformed() -> None:
    states = segment_states(NETWORK)
    with pytest.raises(BadRecord, match=r"record \('segment-states', '1'\) seen, \('readings', '1'\) allowed"):
        decode(Readings, encode(states))
    with pytest.raises(BadRecord, match="revision: 'second' seen, int allowed"):
        decode(SegmentStates, encode(replace(states, revision="second")))  # type: ignore[arg-type]
