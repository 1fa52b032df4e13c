"""Other engines for streams in Python, where they are installed in an environment of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent / ".peers"
PYTHONS = (HERE / "bin" / "python", HERE / "Scripts" / "python.exe")


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: the program that uses it as its documentation says, and how many intervals it gets."""

    module: str
    intervals: int


ENGINES = {
    "bytewax": Engine("benchmarks.peers.bytewax_flow", 4),
    "quixstreams": Engine("benchmarks.peers.quix_windows", 4),
}


def program(name: str) -> str | None:
    """Return the path of a command that is installed beside the engines, or else on the PATH; None where it is not."""
    folders = [*(str(python.parent) for python in PYTHONS), os.environ.get("PATH", os.defpath)]
    return shutil.which(name, path=os.pathsep.join(folders))


def engine_python(name: str) -> Path | None:
    """Return the interpreter that has the engine, None where none has."""
    for python in PYTHONS:
        if python.exists():
            found = subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False)
            return python if found.returncode == 0 else None
    return None
