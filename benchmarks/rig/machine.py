"""The machine in one line: figures mean nothing without it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from infra.kafka.jars import read_lock


def machine() -> str:
    """Return what the figures were measured on, in one line."""
    memory = psutil.virtual_memory().total / 2**30
    cores = f"{os.cpu_count()} cores, {memory:.0f} GB"
    return (
        f"{_model()}, {cores}, {platform.system()} {platform.release()}, Python {platform.python_version()}, {kafka()}"
    )


def load() -> float:
    """Return how many processes want a core now, a minute's mean: other work on the machine."""
    return psutil.getloadavg()[0]


def _model() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return model


def kafka() -> str:
    """Return the version of the embedded broker."""
    versions = [jar.coordinate.split(":")[2] for jar in read_lock() if ":kafka_" in jar.coordinate]
    return f"Kafka {versions[0]}" if versions else "Kafka"
