"""``citybrain screenshot``: a picture of the live page, of a running city or of one started for it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import click

from citybrain.errors import CityBrainError
from cli.options import open_city

WAIT_S = 900.0
STOP_S = 10.0


@click.command()
@click.argument("city", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="PNG to write.")
@click.option("--url", help="Page of a city that runs; default: one is started for the picture, its data thrown away.")
@click.option("--start", default="07:50", show_default=True, metavar="HH:MM", help="When the simulated clock starts.")
@click.option("--at", default="08:30", show_default=True, metavar="HH:MM", help="Simulated time of the picture.")
@click.option("--speed", default=20.0, show_default=True, help="How fast the simulated clock runs until then.")
@click.option("--size", default="1920x1080", show_default=True, help="Width x height.")
def screenshot(city: Path, out: Path, url: str | None, start: str, at: str, speed: float, size: str) -> None:
    """Take a picture of the live page of CITY with headless Chromium.

    \b
    citybrain screenshot cities/porto --out docs/live.png
    citybrain screenshot cities/porto --out now.png --url http://127.0.0.1:8050
    """  # noqa: D301
    from dashboard.screenshot import take_screenshot

    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise click.BadParameter(f"{size!r} seen, such as 1920x1080 allowed", param_hint="--size")
    if url is not None:
        take_screenshot(url, out, (int(width), int(height)))
        return
    with TemporaryDirectory() as folder:
        settings = open_city(city, Path(folder))
        command = [sys.executable, "-m", "cli.main", "up", str(city), "--state", folder, "--port", str(_free_port())]
        up = subprocess.Popen([*command, "--start", start, "--speed", str(speed)])
        page = f"http://127.0.0.1:{command[-1]}/"
        try:
            _wait_until(page, at, settings.timezone, up)
            take_screenshot(page, out, (int(width), int(height)))
        finally:
            up.terminate()
            up.wait(STOP_S)
    click.echo(f"{out}: {size}, simulated {at}")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until(page: str, at: str, timezone: str, up: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if up.poll() is not None:
            raise CityBrainError(f"the city ended with code {up.returncode}")
        ready = _get(f"{page}ready")
        if ready and ready.get("data_time_ms"):
            now = datetime.fromtimestamp(ready["data_time_ms"] / 1000, UTC).astimezone(ZoneInfo(timezone))
            if f"{now:%H:%M}" >= at:
                return
        time.sleep(1)
    raise CityBrainError(f"{page}: the simulated clock did not reach {at} within {WAIT_S:g} s")


def _get(address: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310  our own page on loopback
            found: dict[str, Any] = json.load(answer)
            return found
    except (OSError, urllib.error.URLError, ValueError):
        return None
