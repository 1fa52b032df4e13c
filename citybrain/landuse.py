"""Land use of a city: how much of the ground around a place is lived and worked on; columns in, columns out.

A map's areas are added up in cells of a quarter of a kilometre, so the file of a city is small. It reads no map
(``ingest.maps.landuse``) and knows no zones (``simulators.landuse``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from citybrain.arrowcolumns import save_table
from citybrain.errors import ConfigError
from citybrain.network import FloatArray

LANDUSE_FILE = "landuse.arrow"
_FORMAT = "1"


@dataclass(frozen=True, slots=True)
class LandUse:
    """Cells with something in them, one row each; arrays have shape (n,).

    Attributes
    ----------
    lon, lat
        Middle of the areas in the cell, degrees.
    homes_m2
        Ground that is lived on.
    work_m2
        Ground that is worked on, in that of offices: an industrial estate counts less, a hospital more.
    """

    lon: FloatArray
    lat: FloatArray
    homes_m2: FloatArray
    work_m2: FloatArray

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.lon)

    def save(self, path: Path, attribution: str) -> None:
        """Write it as one Arrow file, owed to whom the map is owed to."""
        table = pa.table({f.name: getattr(self, f.name) for f in fields(self)})
        about = {"format": _FORMAT, "attribution": attribution}
        save_table(table.replace_schema_metadata(about), path, compression=None)

    @classmethod
    def load(cls, path: Path) -> LandUse:
        """Read what `save` wrote.

        Raises
        ------
        ConfigError
            If the file is missing or is no land use of a known format.
        """
        try:
            with pa.OSFile(str(path), "rb") as source:
                table = pa.ipc.open_file(source).read_all()
            said = (table.schema.metadata or {}).get(b"format", b"none").decode()
            if said != _FORMAT:
                raise ConfigError(f"{path}: land use format {said!r} seen, {_FORMAT!r} allowed")
            return cls(**{f.name: table.column(f.name).to_numpy().astype(np.float64) for f in fields(cls)})
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise ConfigError(f"{path}: cannot be read as land use ({error})") from error
