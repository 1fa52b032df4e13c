"""Saved states: arrays by name in, one file an hour out, so that a restart at any time of day takes up near there.

A file that does not fit (another network, seed, setting or version) is as good as none: the day is run from its start.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

State = dict[str, npt.NDArray[Any]]


class SavedStates:
    """The states of one day in a folder.

    Parameters
    ----------
    folder
        Where the files are; made where it is absent.
    fits
        Names everything that a state depends on: network, settings, version of the engine, day.
    """

    def __init__(self, folder: Path, fits: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.fits = fits

    def save(self, second: int, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the state at a second of the day, and remove those of other days or settings."""
        path = self.folder / f"second-{second:06d}.npz"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as sink:
            np.savez_compressed(sink, allow_pickle=False, fits=np.array(self.fits), **state)
        partial.replace(path)
        if second <= 3600:
            for other in self.folder.glob("second-*.npz"):
                if other != path:
                    other.unlink()

    def latest(self, second: int) -> tuple[int, State] | None:
        """Return the newest state at or before a second of the day, with its second; None where none fits."""
        for path in sorted(self.folder.glob("second-*.npz"), reverse=True):
            at = int(path.stem.partition("-")[2])
            if at <= second and (state := self._read(path)) is not None:
                return at, state
        return None

    def _read(self, path: Path) -> State | None:
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["fits"]) != self.fits:
                    return None
                return {name: file[name] for name in file.files if name != "fits"}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None
