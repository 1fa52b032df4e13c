"""Batches of a simulated city in, Parquet files by hour out: for analysts and tests, without a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from citybrain.records import RECORD_NAMES, Passages, Readings
from simulators.hourfiles import Batch, HourFiles


def write_batches(
    batches: Iterator[Batch], until_ms: int, folder: Path, told: Callable[[int], object] = lambda _: None
) -> dict[str, int]:
    """Write what was observed before an instant to ``readings/`` and ``passages/``, one file an hour.

    Parameters
    ----------
    batches
        As they come, by rising watermark; may be endless.
    until_ms
        Intervals that end after it are not written, ms UTC.
    folder
        Where the folders are made.
    told
        Hears the watermark after every batch, ms UTC.

    Returns
    -------
    dict[str, int]
        Rows written, by record.
    """
    with ExitStack() as stack:
        files = {kind: stack.enter_context(HourFiles(folder, kind)) for kind in (Readings, Passages)}
        for batch in batches:
            if batch.watermark_ms > until_ms:
                break
            files[type(batch)].write(batch)
            told(batch.watermark_ms)
    return {RECORD_NAMES[kind]: file.rows for kind, file in files.items()}
