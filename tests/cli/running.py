"""The real command in a process of its own, on the demo city, for tests: start, wait, ask, stop."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import ROOT

PORTO = ROOT / "cities" / "porto"
STARTS_WITHIN_S = 120.0


def demo_city(folder: Path, extra: str = "") -> Path:
    """Make a city folder with the demo city's network and typical week; ``extra`` is added to its city.toml."""
    folder.mkdir()
    for name in ("network.arrow", "typical.arrow"):
        shutil.copy(PORTO / name, folder / name)
    (folder / "city.toml").write_text((PORTO / "city.toml").read_text() + extra)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def citybrain(*arguments: str, timeout_s: float = 60, told: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command to its end; ``told`` is what is typed."""
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, check=False, input=told
    )  # fmt: skip


@dataclass
class Up:
    """A running ``citybrain up``."""

    process: subprocess.Popen[str]
    url: str

    def get(self, path: str) -> Any:
        """Return the JSON answer, None where there is none or an error."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return json.load(answer)
        except (OSError, urllib.error.URLError, ValueError):
            return None

    def refused(self) -> Counter[tuple[str, str]]:
        """Return how many records were refused by (stage, reason), as the metrics have it."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found = re.findall(r'citybrain_dead_letters_total{reason="(\w+)",stage="(\w+)"} ([\d.]+)', text)
        return Counter({(stage, reason): int(float(count)) for reason, stage, count in found})

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def wait_for(self, path: str, holds: Callable[[Any], bool], within_s: float) -> Any:
        """Ask until the answer is as wished, and return it."""
        deadline = time.monotonic() + within_s
        answer = None
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"citybrain up ended: {self.process.returncode}"
            answer = self.get(path)
            if answer is not None and holds(answer):
                return answer
            time.sleep(0.5)
        raise AssertionError(f"{path} was not as wished within {within_s} s: {str(answer)[:500]}")

    def family(self) -> list[psutil.Process]:
        """Return the process and all below it."""
        return [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]

    def interrupt(self) -> tuple[float, list[psutil.Process]]:
        """Press Ctrl-C; return how long it took to end, s, and which processes of the family are left."""
        family = self.family()
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        took_s = time.monotonic() - began
        _, left = psutil.wait_procs(family, timeout=0.5)
        return took_s, left


@contextmanager
def up(city: Path, *options: str) -> Iterator[Up]:
    """Run ``citybrain up`` until the block ends; it is ready when the block begins."""
    port = free_port()
    log = city / "up.log"
    with log.open("a") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", str(city), "--port", str(port), *options],
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    running = Up(process, f"http://127.0.0.1:{port}")
    family: list[psutil.Process] = []
    try:
        running.wait_for("/ready", bool, STARTS_WITHIN_S)
        family = running.family()
        yield running
    finally:
        if process.poll() is None:
            family = running.family()
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        for left in psutil.wait_procs(family, timeout=2)[1]:
            left.kill()
