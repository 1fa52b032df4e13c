"""``citybrain worker`` on a full archive disk: ``python -m tests.cli.fullarchive worker CITY ...``.

While the file that ``FULL`` names is there, the disk takes no file of the archive. The archive writes often and has a
small buffer, which is full soon.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import infra.archive.files
import streams.harness
from cli.main import main
from streams.archive import ArchiveStage

BUFFERED = 4


def patch() -> None:
    """Let every write of the archive fail as a full disk does."""
    put: Callable[[Path, Any], None] = infra.archive.files._put

    def full(path: Path, data: Any) -> None:
        if Path(os.environ["FULL"]).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(path, data)

    infra.archive.files._put = full
    ArchiveStage.checkpoint_every = timedelta(seconds=0.5)
    streams.harness.BUFFERED = BUFFERED


if __name__ == "__main__":
    patch()
    main()
