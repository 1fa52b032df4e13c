"""The jars of Apache Kafka: a lock file in, a folder with exactly those files out. Fetched once by jgo, checked always.

The lock holds the closure of Kafka's own POM. An endpoint "kafka + logging binding" must not be resolved in one go:
the binding's parent POM manages ``kafka-clients`` down to 3.8.0.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from citybrain.errors import BrokerUnavailable

LOCK_FILE = Path(__file__).with_name("jars.lock")
KAFKA = "org.apache.kafka:kafka_2.13:4.4.0"
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"
FETCHERS = 6


@dataclass(frozen=True, slots=True)
class Jar:
    """One file: Maven coordinate ``group:artifact:version``, size in bytes, SHA-256 in hexadecimal."""

    coordinate: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        """Name of the file in the jars folder."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def fits(self, path: Path) -> bool:
        """Return whether ``path`` has exactly these bytes."""
        try:
            return path.stat().st_size == self.size and _sha256(path) == self.sha256
        except OSError:
            return False


def read_lock(path: Path = LOCK_FILE) -> tuple[Jar, ...]:
    """Return the jars that the lock file names."""
    rows = (line.split() for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#"))
    return tuple(Jar(coordinate, int(size), sha256) for coordinate, size, sha256 in rows)


def cache_folder(environment: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Return the folder of this user for what is fetched once; ``CITYBRAIN_CACHE`` names another.

    Examples
    --------
    >>> cache_folder({"CITYBRAIN_CACHE": "/var/cache/city"}).as_posix()
    '/var/cache/city'
    """
    if named := environment.get("CITYBRAIN_CACHE"):
        return Path(named)
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "citybrain" / "cache"
    if platform == "darwin":
        return Path.home() / "Library" / "Caches" / "citybrain"
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "citybrain"


def jars_in(folder: Path, jars: Iterable[Jar] | None = None, console: Console | None = None) -> Path:
    """Return ``folder`` holding every jar of the lock; fetch what is absent or differs, with a bar on ``console``.

    Raises
    ------
    BrokerUnavailable
        If a jar cannot be fetched, or what is fetched has another hash than the project's.
    """
    wanted = read_lock() if jars is None else tuple(jars)
    absent = [jar for jar in wanted if not jar.fits(folder / jar.file_name)]
    if not absent:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as scratch:
            _fetch_all(absent, folder, Path(scratch), console)
    except (OSError, RuntimeError) as error:
        raise BrokerUnavailable(
            f"{len(absent)} of {len(wanted)} files of the embedded Kafka cannot be fetched into {folder}"
            f" ({_first(error)}): connect to the internet once, or name a broker with --brokers"
        ) from error
    return folder


def _fetch_all(jars: list[Jar], folder: Path, scratch: Path, console: Console | None) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with (
        Progress(*columns, console=console, disable=console is None) as bar,
        ThreadPoolExecutor(FETCHERS) as pool,
    ):
        task = bar.add_task("Fetching Apache Kafka (once)", total=sum(jar.size for jar in jars))
        try:
            for jar in pool.map(lambda jar: _fetch(jar, folder, scratch), jars):
                bar.advance(task, jar.size)
        finally:
            # Where one cannot be had the others are not waited for, each for its time-out.
            pool.shutdown(cancel_futures=True)


def _fetch(jar: Jar, folder: Path, scratch: Path) -> Jar:
    # Each fetch has a repository of its own: what an interrupted one left behind is never taken for a whole file,
    # and processes that fetch at the same time do not meet.
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    group, artifact, version = jar.coordinate.split(":")
    remotes = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    context = MavenContext(repo_cache=scratch, local_repos=[], remote_repos=remotes)
    fetched: Path = context.project(group, artifact).at_version(version).artifact().resolve()
    if not jar.fits(fetched):
        raise BrokerUnavailable(
            f"{jar.file_name} as fetched is not used: SHA-256 {_sha256(fetched)} seen, {jar.sha256} allowed"
        )
    os.replace(fetched, folder / jar.file_name)
    return jar


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def remake_lock(path: Path = LOCK_FILE) -> None:
    """Resolve the closure of `KAFKA` anew and write its hashes: for a new version of Kafka."""
    import jgo
    from jgo.maven import MavenContext

    coordinates = [f"{a.groupId}:{a.artifactId}:{a.version}" for a in jgo.resolve(KAFKA)] + [LOGGING]
    scratch = Path(tempfile.mkdtemp())
    context = MavenContext(repo_cache=scratch)
    lines = ["# Apache Kafka and what it needs: coordinate, bytes, SHA-256. Remade by 'python -m infra.kafka.jars'."]
    for coordinate in sorted(coordinates):
        group, artifact, version = coordinate.split(":")
        file = context.project(group, artifact).at_version(version).artifact().resolve()
        lines.append(f"{coordinate} {file.stat().st_size} {_sha256(file)}")
    path.write_text("\n".join(lines) + "\n", "utf-8")
    shutil.rmtree(scratch)


if __name__ == "__main__":
    remake_lock()
