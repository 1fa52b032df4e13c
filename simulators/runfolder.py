"""A run's folder: whole days in, ``readings/``, ``passages/``, ``truth/`` and ``run.json`` out, and never half a day.

A day is written into a hidden folder, ``.day-2026-03-10.partial``. When it is over the folder loses its end in one
rename: from then on the day counts, and its files are moved to their places, which can be done again as often as
needed. Whoever was killed before has lost that day only, and its hidden folder is removed by the next run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from citybrain.errors import ConfigError

RUN_FILE = "run.json"
NETWORK_FILE = "network.arrow"
"""The network of a run whose scenario plans sensors that the city's does not have."""
JUDGED = "judged"
"""Where the report of a run's evaluation lies; it goes with the run that it is of."""
_PARTIAL = ".partial"
_DAY_FILE = "day.json"


class RunFolder:
    """The folder of one run.

    Parameters
    ----------
    folder
        Made where it is absent.
    about
        What the run is: scenario, seed, network, version. A run goes on in a folder that says the same.
    where
        What may be another when it goes on: where the city lies, say.

    Attributes
    ----------
    days
        What is known of each whole day, in order.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], where: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.about = json.loads(json.dumps(about))
        self.where = dict(where or {})
        self.days: list[dict[str, Any]] = []

    def open(self, *, anew: bool = False) -> None:
        """Take up the run that the folder holds, finish what was left undone, and remove what is half.

        Parameters
        ----------
        anew
            Remove a run that the folder holds, whatever it is.

        Raises
        ------
        ConfigError
            If the folder holds another run, or something else.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.folder}: the folder cannot be made ({error.strerror})") from error
        if anew:
            self._remove()
        said = self._said()
        if said is None and any(path for path in self.folder.iterdir() if not path.name.startswith(".")):
            raise ConfigError(f"{self.folder}: files that are no run seen, an empty folder or one of a run allowed")
        if said is not None and (other := self._difference(said)):
            raise ConfigError(
                f"{self.folder}: a run with another {other} seen, the same scenario, seed, network and version allowed "
                "(--anew removes it)"
            )
        self.days = said["days"] if said is not None else []
        for path in sorted(self.folder.glob(f".day-*{_PARTIAL}")):
            shutil.rmtree(path)
        for path in sorted(self.folder.glob(".day-*")):
            self._move(path)
        self._write()

    def begin(self, date: str) -> Path:
        """Return the hidden folder into which a day is written."""
        path = self.folder / f".day-{date}{_PARTIAL}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def keep(self, hidden: Path, day: Mapping[str, Any]) -> None:
        """Let a day count that was written into its hidden folder, and is whole."""
        for path in _files(hidden):
            before = self.folder / path.relative_to(hidden)
            if before.exists():  # an hour in which one day ends and the next begins: the zone is not whole hours away
                tables = [pq.read_table(before), pq.read_table(path)]
                pq.write_table(pa.concat_tables(tables, promote_options="permissive"), path, compression="zstd")
        (hidden / _DAY_FILE).write_text(json.dumps(day))
        whole = hidden.with_name(hidden.name.removesuffix(_PARTIAL))
        hidden.rename(whole)
        self._move(whole)
        self._write()

    def drop(self, hidden: Path) -> None:
        """Remove a day that did not become whole."""
        shutil.rmtree(hidden, ignore_errors=True)

    def _move(self, whole: Path) -> None:
        """Move a whole day's files to their places; may be done again after it was interrupted."""
        day = json.loads((whole / _DAY_FILE).read_text())
        for path in _files(whole):
            place = self.folder / path.relative_to(whole)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
        if day not in self.days:
            self.days.append(day)
            self._write()
        shutil.rmtree(whole)

    def _said(self) -> dict[str, Any] | None:
        path = self.folder / RUN_FILE
        if not path.exists():
            return None
        try:
            said = json.loads(path.read_text())
            return said if isinstance(said["days"], list) else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}: no run's description seen ({error}), one allowed (--anew removes it)"
            ) from error

    def _difference(self, said: Mapping[str, Any]) -> str:
        return next((key for key, value in self.about.items() if said.get(key) != value), "")

    def _write(self) -> None:
        rows: dict[str, int] = {}
        for day in self.days:
            for kind, count in day.get("rows", {}).items():
                rows[kind] = rows.get(kind, 0) + count
        span = {"from_ms": self.days[0]["from_ms"], "until_ms": self.days[-1]["until_ms"]} if self.days else {}
        text = json.dumps(
            {**self.about, **self.where, **span, "rows": rows, "days": self.days}, indent=1, ensure_ascii=False
        )
        partial = self.folder / f".{RUN_FILE}.new"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self.folder / RUN_FILE)

    def _remove(self) -> None:
        for name in ("readings", "passages", "truth", JUDGED):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for path in self.folder.glob(".day-*"):
            shutil.rmtree(path)
        for name in (NETWORK_FILE, RUN_FILE):
            (self.folder / name).unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.parquet") if path.is_file())
