"""A child process that is watched: a command in, a process that lives as long as we do and comes back if it dies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import structlog

log = structlog.get_logger()

BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0
"""A child that has run so long begins again at the first backoff."""
STOP_S = 3.0


class Child:
    """One child of this program, started again when it ends by itself.

    It is told to end by the end of its standard input, which comes with our own end too, however that happens.
    """

    def __init__(self, name: str, arguments: Sequence[str], log_file: Path) -> None:
        self.name = name
        self.restarts = 0
        self._command = [sys.executable, "-m", "cli.main", *arguments, "--until-stdin-closes"]
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._again_at: float | None = None

    def start(self) -> None:
        """Start it."""
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as out:
            # A session of its own: Ctrl-C in the terminal is for us, who stop our children in order.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._started_at, self._again_at = time.monotonic(), None

    @property
    def state(self) -> str:
        """``ok``, or what is wrong in plain words."""
        if self._process is not None and self._process.poll() is None:
            return "ok"
        return f"{self.name} ended and is started again: {self._last_words()}"

    @property
    def pid(self) -> int:
        """Process id; 0 before the start."""
        return self._process.pid if self._process else 0

    def watch(self) -> None:
        """Start it again if it ended; called every second or so."""
        if self._process is None or self._process.poll() is None:
            return
        now = time.monotonic()
        if self._again_at is None:
            if now - self._started_at > STEADY_S:
                self.restarts = 0
            wait = BACKOFF_S[min(self.restarts, len(BACKOFF_S) - 1)]
            self._again_at = now + wait
            log.warning("child_ended", child=self.name, code=self._process.returncode, again_in_s=wait)
        elif now >= self._again_at:
            self.restarts += 1
            self.start()

    def stop(self) -> None:
        """Ask it to end, wait, and kill it if it does not."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _last_words(self) -> str:
        try:
            lines = self._log_file.read_text("utf-8", "replace").splitlines()[-1:]
        except OSError:
            lines = []
        return lines[0][:300] if lines else f"see {self._log_file}"


def set_when_closed(stdin: IO[bytes], stop: threading.Event) -> None:
    """Set ``stop`` when the parent closes our standard input, or dies."""

    def wait() -> None:
        while stdin.read(4096):
            pass
        stop.set()

    threading.Thread(target=wait, name="parent", daemon=True).start()
