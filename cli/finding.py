"""What a check of ``citybrain doctor`` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence, and whether it is well, worth knowing, or wrong."""

    state: Literal["well", "note", "wrong"]
    text: str
