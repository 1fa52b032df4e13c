"""Processes: the shipped commands started, watched and started again as a service manager would; killed by signal.

Nothing of the program is imported into this process to run it: a worker is ``citybrain worker``, and so on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conftest import ROOT

AGAIN_S = 1.0
"""A process that ended is started again after so long."""
STOP_S = 20.0
MOST_ENDS = 3


class Service:
    """One command that is to run: started again whenever it ends, until it is told to stop.

    Parameters
    ----------
    name
        For the log.
    arguments
        Of ``citybrain``, or of `tests.torture.mutants` with a mutant's name first.
    mutant
        The mutant, empty for the program as shipped.
    folder
        Where its output goes.
    """

    def __init__(self, name: str, arguments: Sequence[str], *, mutant: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        launcher = ["-m", "tests.torture.mutants", mutant] if mutant else ["-m", "cli.main"]
        self._command = [sys.executable, *launcher, *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False
        self._lock = threading.Lock()
        self.ends: list[int] = []
        """Exit codes so far."""

    @property
    def pid(self) -> int:
        """The process, 0 where it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def start(self) -> None:
        """Start it, and keep it running."""
        with self._lock:
            self._wanted = True
            self._begin()

    def _begin(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{self.name}.log").open("ab") as out:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def watch(self) -> None:
        """Start it again if it ended though it is wanted."""
        with self._lock:
            if self._wanted and self._process is not None and (code := self._process.poll()) is not None:
                self.ends.append(code)
                self._process = None
                threading.Timer(AGAIN_S, self._again).start()

    def _again(self) -> None:
        with self._lock:
            if self._wanted and self._process is None:
                self._begin()

    def signal(self, number: int) -> bool:
        """Send a signal; return whether there was a process to get it."""
        pid = self.pid
        if pid:
            os.kill(pid, number)
        return bool(pid)

    def last_words(self) -> str:
        """Return the end of its output."""
        path = self._folder / f"{self.name}.log"
        return path.read_text("utf-8", "replace")[-600:] if path.exists() else "nothing"

    def stop(self) -> None:
        """End it for good: in order, and by force if it does not end."""
        with self._lock:
            self._wanted = False
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Services:
    """All of them, and a thread that watches."""

    def __init__(self) -> None:
        self.all: list[Service] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="services")

    def add(self, service: Service) -> Service:
        """Start one more."""
        self.all.append(service)
        service.start()
        return service

    def steady(self) -> bool:
        """Return True; raise RuntimeError, with what it said last, if a process ends again and again."""
        for service in self.all:
            if len(service.ends) > MOST_ENDS:
                raise RuntimeError(f"{service.name} does not run: {service.last_words()}")
        return True

    def named(self, prefix: str) -> list[Service]:
        """Return the services whose name begins so."""
        return [service for service in self.all if service.name.startswith(prefix)]

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            for service in list(self.all):
                service.watch()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for service in self.all:
            service.stop()


def wait_until(holds: Callable[[], bool], within_s: float, what: str) -> None:
    """Ask again and again; raise TimeoutError with ``what`` if it does not come true in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so within {within_s:.0f} s")
        time.sleep(0.25)
