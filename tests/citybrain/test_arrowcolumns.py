from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from citybrain.arrowcolumns import arrow_column, arrow_table, numpy_column
from tests.fakes import grid_network

RUN = """
import sys
from pathlib import Path
from citybrain.network import Network
from citybrain.settings import SimulatedFeed
from simulators.city import SimulatedCity
from simulators.run import Span, run_days
from simulators.runfolder import RunFolder
from simulators.scenario import Scenario

here = Path(sys.argv[1])
scenario = Scenario("A day")
city = SimulatedCity(Network.load(here / "network.arrow"), SimulatedFeed(trips=400), "Europe/Lisbon", scenario=scenario)
folder = RunFolder(here / "run", {})
folder.open()
run_days(city, Span.of(scenario, "05:00"), folder)
print("pandas" in sys.modules)
"""


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
def test_numbers_come_back_as_they_were(dtype: str) -> None:
    values = np.arange(11).astype(dtype)[::2]
    column = arrow_column(values)
    assert column.equals(pa.array(values))
    back = numpy_column(column)
    assert back.dtype == values.dtype
    assert back.tolist() == values.tolist()


def test_texts_truths_and_what_is_missing_are_as_arrow_has_them() -> None:
    texts, truths = np.array(["", "a", "Gaia é", "长"]), np.arange(9) % 3 == 0
    assert arrow_column(texts).equals(pa.array(texts.tolist()))
    assert numpy_column(arrow_column(texts)).tolist() == texts.tolist()
    assert arrow_column(truths).equals(pa.array(truths))
    assert numpy_column(arrow_column(truths)).tolist() == truths.tolist()
    gone = np.arange(9) > 6
    assert arrow_column(np.arange(9.0), missing=gone).equals(pa.array(np.arange(9.0), mask=gone))
    empty = arrow_table({"name": np.array([], np.str_), "size": np.array([], np.int32)})
    assert empty.schema == pa.schema([("name", pa.string()), ("size", pa.int32())])


def test_a_network_is_loaded_and_a_run_is_written_without_pandas(tmp_path: Path) -> None:
    grid_network().save(tmp_path / "network.arrow")
    run = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "False"
